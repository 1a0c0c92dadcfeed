// Real threads that are blocked, and what can be read of them from outside.
#include "agent/service/lock_waits.h"

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <optional>
#include <thread>

#include <pthread.h>
#include <semaphore.h>

#include "agent/safe/arena.h"
#include "agent/safe/sys.h"
#include "agent/safe/threads.h"
#include "agent/safe/unwind.h"

namespace profagent::service {
namespace {

using safe::WaitKind;

const auto kNothing = [] {};

// What the hook of a call that waits does: says where and for what. The caller's frame is the thread's.
[[gnu::noinline]] void publish(WaitKind kind, const void* object) {
  safe::threads.current()->wait.publish(kind, object, safe::caller_frame());
}
void withdraw() {
  safe::threads.current()->wait.withdraw();
}

void give_room() {
  safe::arena.set_limit(safe::arena.mapped() + (std::size_t{16} << 20));
}

std::optional<LockWait> wait_of(pid_t tid) {
  const LockWaits all = read_lock_waits();
  const auto found =
      std::find_if(all.waits.begin(), all.waits.end(), [=](const LockWait& w) { return w.waiter == tid; });
  return found == all.waits.end() ? std::nullopt : std::optional(*found);
}

// A thread runs work() and says its tid first.
class Waiter {
 public:
  template <typename Work>
  explicit Waiter(Work work) {
    give_room();
    thread_ = std::thread([this, work] {
      tid_ = safe::sys::gettid();
      work();
    });
    while (tid_ == 0) std::this_thread::yield();
  }
  ~Waiter() { thread_.join(); }
  [[nodiscard]] pid_t tid() const { return tid_; }
  LockWait await_wait() const {
    for (;;) {
      if (const auto wait = wait_of(tid_)) return *wait;
      std::this_thread::yield();
    }
  }
  [[nodiscard]] pthread_t handle() { return thread_.native_handle(); }

 private:
  std::atomic<pid_t> tid_{0};
  std::thread thread_;
};

TEST_CASE("a thread that waits for a mutex, and who has it") {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&mutex);
  {
    const Waiter waiter([&] {
      publish(WaitKind::kMutex, &mutex);
      pthread_mutex_lock(&mutex);
      withdraw();
      pthread_mutex_unlock(&mutex);
    });
    const LockWait wait = waiter.await_wait();
    CHECK(wait.kind == WaitKind::kMutex);
    CHECK(wait.object == reinterpret_cast<std::uintptr_t>(&mutex));
    CHECK(wait.holder == safe::sys::gettid());
    CHECK_FALSE(wait.is_shared);
    CHECK_FALSE(wait.futex.is_timed);
    const LockWait waits[] = {wait};
    bool called = false;
    CHECK(held_together(waits, [&] { called = true; }));
    CHECK(called);
    pthread_mutex_unlock(&mutex);
  }
  CHECK(read_lock_waits().waits.empty());
}

// The two looks are equal in every word. Only the kernel knows that it is another wait.
TEST_CASE("a thread that was woken and waits again in the same place has not waited all the time") {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  std::atomic<int> had{0};
  std::atomic<int> may_go{0};
  constexpr int kTimes = 20;
  pthread_mutex_lock(&mutex);
  const Waiter waiter([&] {
    // It counts in memory: a register that changes would tell the looks apart.
    while (had < kTimes) {
      publish(WaitKind::kMutex, &mutex);
      pthread_mutex_lock(&mutex);
      withdraw();
      pthread_mutex_unlock(&mutex);
      ++had;
      while (may_go < had) std::this_thread::yield();
    }
  });
  for (int i = 1; i <= kTimes; ++i) {
    const LockWait waits[] = {waiter.await_wait()};
    CHECK(held_together(waits, kNothing));
    const bool is_last = i == kTimes;
    const bool held = held_together(waits, [&] {
      pthread_mutex_unlock(&mutex);
      while (had < i) std::this_thread::yield();
      pthread_mutex_lock(&mutex);
      may_go = i;
      if (!is_last) CHECK(waiter.await_wait() == waits[0]);
    });
    CHECK_FALSE(held);
  }
  pthread_mutex_unlock(&mutex);
}

TEST_CASE("a thread that waits for a read-write lock which is being written") {
  pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
  pthread_rwlock_wrlock(&lock);
  for (const bool to_write : {false, true}) {
    const Waiter waiter([&, to_write] {
      publish(WaitKind::kRwlock, &lock);
      to_write ? pthread_rwlock_wrlock(&lock) : pthread_rwlock_rdlock(&lock);
      withdraw();
      pthread_rwlock_unlock(&lock);
    });
    const LockWait wait = waiter.await_wait();
    CHECK(wait.kind == WaitKind::kRwlock);
    CHECK(wait.holder == safe::sys::gettid());
    pthread_rwlock_unlock(&lock);
    if (!to_write) pthread_rwlock_wrlock(&lock);
  }
}

TEST_CASE("a thread that waits for the end of another") {
  sem_t end;
  sem_init(&end, 0, 0);
  pthread_t other_handle;
  std::atomic<pid_t> other{0};
  auto routine = [&] {
    other = safe::sys::gettid();
    sem_wait(&end);
  };
  std::thread thread(routine);
  other_handle = thread.native_handle();
  while (other == 0) std::this_thread::yield();
  {
    const Waiter waiter([&] {
      publish(WaitKind::kJoin, reinterpret_cast<const void*>(other_handle));
      thread.join();
      withdraw();
    });
    const LockWait wait = waiter.await_wait();
    CHECK(wait.kind == WaitKind::kJoin);
    CHECK(wait.holder == other);
    sem_post(&end);
  }
}

// As after a wait that was left by longjmp or cancelled.
TEST_CASE("an old wait site is not believed") {
  pthread_mutex_t old_mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&old_mutex);
  pthread_mutex_lock(&mutex);
  std::atomic<bool> published{false};
  {
    const Waiter waiter([&] {
      publish(WaitKind::kMutex, &old_mutex);
      published = true;
      pthread_mutex_lock(&mutex);
      pthread_mutex_unlock(&mutex);
      withdraw();
    });
    while (!published) std::this_thread::yield();
    // Until it is blocked, whatever it is blocked in, and beyond.
    for (int i = 0; i < 200; ++i) {
      REQUIRE_FALSE(wait_of(waiter.tid()).has_value());
      std::this_thread::yield();
    }
    pthread_mutex_unlock(&mutex);
  }
  pthread_mutex_unlock(&old_mutex);
}

TEST_CASE("a mutex between processes is known as such") {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutex_t mutex;
  pthread_mutex_init(&mutex, &attributes);
  pthread_mutex_lock(&mutex);
  const Waiter waiter([&] {
    publish(WaitKind::kMutex, &mutex);
    pthread_mutex_lock(&mutex);
    withdraw();
    pthread_mutex_unlock(&mutex);
  });
  CHECK(waiter.await_wait().is_shared);
  pthread_mutex_unlock(&mutex);
}

}  // namespace
}  // namespace profagent::service
