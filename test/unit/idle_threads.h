// Many threads of this process that wait until they are let go.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

#include <pthread.h>
#include <semaphore.h>

namespace profagent::test {

class IdleThreads {
 public:
  explicit IdleThreads(std::size_t count) : threads_(count) {
    sem_init(&end_, 0, 0);
    sem_init(&arrived_, 0, 0);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, std::size_t{64} << 10);
    for (pthread_t& thread : threads_)
      if (pthread_create(&thread, &small, wait, this) != 0) throw std::bad_alloc();
    pthread_attr_destroy(&small);
    for (std::size_t i = 0; i < count; ++i) sem_wait(&arrived_);
  }
  ~IdleThreads() {
    for (std::size_t i = 0; i < threads_.size(); ++i) sem_post(&end_);
    for (const pthread_t thread : threads_) pthread_join(thread, nullptr);
  }
  IdleThreads(const IdleThreads&) = delete;
  IdleThreads& operator=(const IdleThreads&) = delete;

 private:
  static void* wait(void* self) {
    auto& threads = *static_cast<IdleThreads*>(self);
    sem_post(&threads.arrived_);
    sem_wait(&threads.end_);
    return nullptr;
  }

  std::vector<pthread_t> threads_;
  sem_t end_, arrived_;
};

}  // namespace profagent::test
