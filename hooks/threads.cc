#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "agent/safe/cpu_recorder.h"
#include "agent/safe/cpu_timers.h"
#include "agent/safe/events.h"
#include "agent/safe/sys.h"
#include "agent/safe/thread_state.h"
#include "hooks/export.h"
#include "hooks/real.h"
#include "hooks/threads.h"

namespace profagent::hooks {

namespace {

using StartRoutine = void* (*)(void*);

// What a new thread is to do, between its creator and itself. A few, because they are needed only for a
// moment; when all are in use, the thread starts without us, and is found a little later.
struct Birth {
  std::atomic<bool> taken{false};
  StartRoutine start = nullptr;
  void* argument = nullptr;
};
constexpr std::size_t kBirths = 64;
constinit Birth births[kBirths];

Birth* prepare_birth(StartRoutine start, void* argument) {
  for (Birth& birth : births) {
    if (birth.taken.load(std::memory_order_relaxed)) continue;
    // Acquire pairs with the release in let_go().
    if (birth.taken.exchange(true, std::memory_order_acquire)) continue;
    birth.start = start;
    birth.argument = argument;
    return &birth;
  }
  return nullptr;
}

void let_go(Birth& birth) {
  birth.taken.store(false, std::memory_order_release);
}

// A tail call, so that the thread's stack begins with its own routine, as without us.
void* begin_thread(void* pointer) {
  auto& birth = *static_cast<Birth*>(pointer);
  const StartRoutine start = birth.start;
  void* argument = birth.argument;
  let_go(birth);
  safe::cpu_recorder.on_thread_start();
  return start(argument);
}

int create_known(pthread_t* thread, const pthread_attr_t* attributes, StartRoutine start, void* argument) {
  // Only a thread that is sampled itself: what forbids a timer, a system call filter for instance, is
  // inherited.
  const bool is_sampled =
      safe::cpu_recorder.is_running() && safe::cpu_timers.find(safe::sys::gettid()) != nullptr;
  Birth* birth = is_sampled ? prepare_birth(start, argument) : nullptr;
  if (birth == nullptr) return real::pthread_create(thread, attributes, start, argument);
  const int result = real::pthread_create(thread, attributes, begin_thread, birth);
  if (result != 0) let_go(*birth);
  return result;
}

}  // namespace

void forget_births_after_fork() noexcept {
  for (Birth& birth : births) let_go(birth);
}

extern "C" {

PROFAGENT_EXPORT(pthread_create)
int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, StartRoutine start, void* argument) {
  const int result = create_known(thread, attributes, start, argument);
  // Not for a thread that an allocator makes from inside one of our hooks: it may hold its locks.
  if (result == 0 && safe::Section().is_outermost() && !safe::thread_state.is_agent) {
    const int saved_errno = errno;
    safe::raise(safe::events.thread_created);
    errno = saved_errno;
  }
  return result;
}

}  // extern "C"

}  // namespace profagent::hooks
