#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>

#include <threads.h>

#include "agent/safe/cpu_recorder.h"
#include "agent/safe/cpu_timers.h"
#include "agent/safe/created_threads.h"
#include "agent/safe/creation_recorder.h"
#include "agent/safe/events.h"
#include "agent/safe/sys.h"
#include "agent/safe/thread_state.h"
#include "agent/safe/unwind.h"
#include "hooks/entries.h"
#include "hooks/export.h"
#include "hooks/real.h"
#include "hooks/threads.h"

namespace profagent::hooks {

namespace {

using StartRoutine = void* (*)(void*);
using AnyRoutine = void (*)();

// What a new thread is to do, between its creator and itself, and what we want of it. (Its creator cannot
// tell us which thread it was: it has the handle in memory that the thread may have freed.) Needed until the
// thread first runs, so a creator that is faster than the machine has many; when all are in use, the thread
// starts without us.
struct Birth {
  std::atomic<bool> taken{false};
  bool is_recorded = false;
  bool is_sampled = false;
  bool is_filtered = false;
  safe::BucketId creator = 0;
  AnyRoutine start = nullptr;
  void* argument = nullptr;
};
constexpr std::size_t kBirths = 4096;
constinit Birth births[kBirths];
// Where one was free a moment ago.
constinit std::atomic<std::size_t> free_birth{0};

void let_go(Birth& birth) {
  birth.taken.store(false, std::memory_order_release);
  free_birth.store(static_cast<std::size_t>(&birth - births), std::memory_order_relaxed);
}

Birth* take_birth() {
  const std::size_t first = free_birth.load(std::memory_order_relaxed);
  for (std::size_t i = 0; i < kBirths; ++i) {
    Birth& birth = births[(first + i) % kBirths];
    if (birth.taken.load(std::memory_order_relaxed)) continue;
    // Acquire pairs with the release in let_go().
    if (birth.taken.exchange(true, std::memory_order_acquire)) continue;
    free_birth.store((first + i + 1) % kBirths, std::memory_order_relaxed);
    return &birth;
  }
  return nullptr;
}

struct Task {
  AnyRoutine start;
  void* argument;
};

// On the new thread.
[[gnu::noinline]] Task take_over(Birth& birth) {
  const Task task{birth.start, birth.argument};
  const bool is_recorded = birth.is_recorded;
  const bool is_sampled = birth.is_sampled;
  const safe::BucketId creator = birth.creator;
  safe::thread_state.is_filtered = birth.is_filtered;
  let_go(birth);
  if (is_recorded) safe::created_threads.note(safe::CreatedThreads::own_handle(), creator);
  if (is_sampled) safe::cpu_recorder.on_thread_start();
  return task;
}

// Both with a tail call, so that the thread's stack begins with its own routine, as without us.
void* begin_thread(void* birth) {
  const Task task = take_over(*static_cast<Birth*>(birth));
  return reinterpret_cast<StartRoutine>(task.start)(task.argument);
}
int begin_c11_thread(void* birth) {
  const Task task = take_over(*static_cast<Birth*>(birth));
  return reinterpret_cast<thrd_start_t>(task.start)(task.argument);
}

// A thread that is about to be created.
struct Creation {
  Birth* birth = nullptr;
  bool is_recorded = false;
  safe::BucketId creator = 0;
};

Creation prepare(AnyRoutine start, void* argument, const safe::StartFrame& caller) {
  Creation creation;
  // To record it may ask the kernel for memory.
  const bool is_filtered = !safe::may_ask_kernel();
  creation.is_recorded =
      !is_filtered && safe::creation_recorder.is_recording() && !safe::thread_state.is_agent;
  // Only a thread that is sampled itself: what forbids a timer, a system call filter for instance, is
  // inherited.
  const bool is_sampled = !is_filtered && safe::cpu_recorder.is_running() &&
                          safe::cpu_timers.find(safe::sys::gettid()) != nullptr;
  if (creation.is_recorded) creation.creator = safe::creation_recorder.find_creator(caller);
  // Its own filter is what the new thread inherits; one for all may still be refused.
  const bool inherits = safe::thread_state.is_filtered;
  if (creation.is_recorded || is_sampled || inherits) creation.birth = take_birth();
  // It will not know of the filter; to be safe all do.
  if (inherits && creation.birth == nullptr) safe::events.all_are_filtered.fetch_add(1);
  if (creation.birth != nullptr) {
    creation.birth->start = start;
    creation.birth->argument = argument;
    creation.birth->is_recorded = creation.is_recorded;
    creation.birth->is_sampled = is_sampled;
    creation.birth->is_filtered = inherits;
    creation.birth->creator = creation.creator;
  }
  return creation;
}

void finish(const Creation& creation, bool created) {
  if (!created) {
    if (creation.birth != nullptr) let_go(*creation.birth);
    return;
  }
  const int saved_errno = errno;
  if (creation.is_recorded) safe::creation_recorder.on_created(creation.creator);
  // Not for a thread that an allocator makes from inside one of our hooks: it may hold its locks.
  if (safe::Section().is_outermost() && !safe::thread_state.is_agent && safe::may_ask_kernel())
    safe::raise(safe::events.thread_created);
  errno = saved_errno;
}

}  // namespace

void forget_births_after_fork() noexcept {
  for (Birth& birth : births) {
    // Looked at first: a page that nobody has used stays so.
    if (birth.taken.load(std::memory_order_relaxed)) let_go(birth);
  }
}

extern "C" {

PROFAGENT_EXPORT(pthread_create)
int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, StartRoutine start, void* argument) {
  const Creation creation = prepare(reinterpret_cast<AnyRoutine>(start), argument, safe::caller_frame());
  const int result = creation.birth == nullptr
                         ? real::pthread_create(thread, attributes, start, argument)
                         : real::pthread_create(thread, attributes, begin_thread, creation.birth);
  finish(creation, result == 0);
  return result;
}

}  // extern "C"

// C11, under names that libraries have had for their own (entries.h).
namespace watched {

int thrd_create(thrd_t* thread, thrd_start_t start, void* argument) {
  const Creation creation = prepare(reinterpret_cast<AnyRoutine>(start), argument, safe::caller_frame());
  const int result = creation.birth == nullptr ? real::thrd_create(thread, start, argument)
                                               : real::thrd_create(thread, begin_c11_thread, creation.birth);
  finish(creation, result == thrd_success);
  return result;
}

}  // namespace watched

}  // namespace profagent::hooks
