// Condition variables, semaphores, barriers, the end of a thread. Most are cancellation points.
// Those who wake are hooked for the name of who did.
#include <cerrno>
#include <ctime>

#include <pthread.h>
#include <semaphore.h>
#include <threads.h>

#include "hooks/entries.h"
#include "hooks/export.h"
#include "hooks/real.h"
#include "hooks/waiting.h"

namespace profagent::hooks {

using safe::WaitKind;

namespace {

// As sem_wait() does it: it acts on a cancellation even when it has not to wait.
bool takes_unit(sem_t* semaphore) {
  pthread_testcancel();
  const int saved_errno = errno;
  if (real::attempt_unit(semaphore) == 0) return true;
  errno = saved_errno;
  return false;
}

bool is_valid_time() {
  return true;
}
bool is_valid_time(const timespec* until) {
  return is_valid(*until);
}
bool is_valid_time(clockid_t clock, const timespec* until) {
  return is_valid(clock) && is_valid(*until);
}

template <auto& real, typename... Arguments>
[[gnu::noinline]] int take_or_wait_for_unit(sem_t* semaphore, Arguments... arguments) {
  if (safe::contention_recorder.is_timing() && is_valid_time(arguments...) && takes_unit(semaphore)) return 0;
  // Not because there is none.
  if (real::attempt_unit == real::have_no_unit && has_units(semaphore)) [[unlikely]]
    return real(semaphore, arguments...);
  return wait_in<WaitKind::kSemaphore, real, Entered::kWhileHoldersAreTold>(
      static_cast<const void*>(semaphore), semaphore, arguments...);
}

template <auto& real, typename... Arguments>
[[gnu::always_inline]] inline int wait_for_unit(sem_t* semaphore, Arguments... arguments) {
  if (safe::contention_recorder.is_timing() || !has_units(semaphore)) [[unlikely]]
    return take_or_wait_for_unit<real>(semaphore, arguments...);
  return real(semaphore, arguments...);
}

const void* object_of(pthread_t thread) {
  return reinterpret_cast<const void*>(thread);
}

}  // namespace

extern "C" {

PROFAGENT_EXPORT_AS(pthread_cond_wait, "pthread_cond_wait@@GLIBC_2.3.2")
int pthread_cond_wait(pthread_cond_t* cond, pthread_mutex_t* mutex) {
  return wait_for_cond<real::pthread_cond_wait>(cond, mutex);
}

PROFAGENT_EXPORT_AS(pthread_cond_timedwait, "pthread_cond_timedwait@@GLIBC_2.3.2")
int pthread_cond_timedwait(pthread_cond_t* cond, pthread_mutex_t* mutex, const timespec* until) {
  return wait_for_cond<real::pthread_cond_timedwait>(cond, mutex, until);
}

// Condition variables as they were before glibc 2.3.2: a pointer, where the newer ones have 48 bytes.
PROFAGENT_EXPORT_AS(old_pthread_cond_wait, "pthread_cond_wait@GLIBC_2.2.5")
int old_pthread_cond_wait(void* cond, pthread_mutex_t* mutex) {
  return wait_for_cond<real::old_pthread_cond_wait>(cond, mutex);
}

PROFAGENT_EXPORT_AS(old_pthread_cond_timedwait, "pthread_cond_timedwait@GLIBC_2.2.5")
int old_pthread_cond_timedwait(void* cond, pthread_mutex_t* mutex, const timespec* until) {
  return wait_for_cond<real::old_pthread_cond_timedwait>(cond, mutex, until);
}

PROFAGENT_EXPORT(pthread_cond_clockwait)
int pthread_cond_clockwait(pthread_cond_t* cond, pthread_mutex_t* mutex, clockid_t clock,
                           const timespec* until) {
  return wait_for_cond<real::pthread_cond_clockwait>(cond, mutex, clock, until);
}

PROFAGENT_EXPORT_AS(pthread_cond_signal, "pthread_cond_signal@@GLIBC_2.3.2")
int pthread_cond_signal(pthread_cond_t* cond) {
  return wake_by<real::pthread_cond_signal>(cond);
}

PROFAGENT_EXPORT_AS(pthread_cond_broadcast, "pthread_cond_broadcast@@GLIBC_2.3.2")
int pthread_cond_broadcast(pthread_cond_t* cond) {
  return wake_by<real::pthread_cond_broadcast>(cond);
}

PROFAGENT_EXPORT_AS(old_pthread_cond_signal, "pthread_cond_signal@GLIBC_2.2.5")
int old_pthread_cond_signal(void* cond) {
  return wake_by<real::old_pthread_cond_signal>(cond);
}

PROFAGENT_EXPORT_AS(old_pthread_cond_broadcast, "pthread_cond_broadcast@GLIBC_2.2.5")
int old_pthread_cond_broadcast(void* cond) {
  return wake_by<real::old_pthread_cond_broadcast>(cond);
}

PROFAGENT_EXPORT(sem_post)
int sem_post(sem_t* semaphore) {
  return wake_by<real::sem_post>(semaphore);
}

PROFAGENT_EXPORT(sem_wait)
int sem_wait(sem_t* semaphore) {
  return wait_for_unit<real::sem_wait>(semaphore);
}

PROFAGENT_EXPORT(sem_timedwait)
int sem_timedwait(sem_t* semaphore, const timespec* until) {
  return wait_for_unit<real::sem_timedwait>(semaphore, until);
}

PROFAGENT_EXPORT(sem_clockwait)
int sem_clockwait(sem_t* semaphore, clockid_t clock, const timespec* until) {
  return wait_for_unit<real::sem_clockwait>(semaphore, clock, until);
}

PROFAGENT_EXPORT(pthread_barrier_wait)
int pthread_barrier_wait(pthread_barrier_t* barrier) {
  return wait_in<WaitKind::kBarrier, real::pthread_barrier_wait>(barrier, barrier);
}

PROFAGENT_EXPORT(pthread_join)
int pthread_join(pthread_t thread, void** result) {
  return wait_in<WaitKind::kJoin, real::pthread_join>(object_of(thread), thread, result);
}

PROFAGENT_EXPORT(pthread_timedjoin_np)
int pthread_timedjoin_np(pthread_t thread, void** result, const timespec* until) {
  return wait_in<WaitKind::kJoin, real::pthread_timedjoin_np>(object_of(thread), thread, result, until);
}

PROFAGENT_EXPORT(pthread_clockjoin_np)
int pthread_clockjoin_np(pthread_t thread, void** result, clockid_t clock, const timespec* until) {
  return wait_in<WaitKind::kJoin, real::pthread_clockjoin_np>(object_of(thread), thread, result, clock,
                                                              until);
}

}  // extern "C"

// C11, under names that libraries have had for their own (entries.h).
namespace watched {

int cnd_wait(cnd_t* cond, mtx_t* mutex) {
  return wait_for_cond<real::cnd_wait>(cond, mutex);
}

int cnd_timedwait(cnd_t* cond, mtx_t* mutex, const timespec* until) {
  return wait_for_cond<real::cnd_timedwait>(cond, mutex, until);
}

int cnd_signal(cnd_t* cond) {
  return wake_by<real::cnd_signal>(cond);
}

int cnd_broadcast(cnd_t* cond) {
  return wake_by<real::cnd_broadcast>(cond);
}

int thrd_join(thrd_t thread, int* result) {
  return wait_in<WaitKind::kJoin, real::thrd_join>(object_of(thread), thread, result);
}

}  // namespace watched

}  // namespace profagent::hooks
