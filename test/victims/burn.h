// CPU time, spent, and measured by the calling thread's own CPU clock. Everything is inlined, so that the
// victim's own function is the one that burns; only libc's clock_gettime appears below it.
#pragma once

#include <pthread.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE uint64_t clock_nanos(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

ALWAYS_INLINE uint64_t thread_cpu(void) {
  return clock_nanos(CLOCK_THREAD_CPUTIME_ID);
}

ALWAYS_INLINE void spin(unsigned turns) {
  for (unsigned i = 0; i < turns; ++i) __asm__ volatile("");
}

// About so much CPU time, at most two seconds, without asking for the time. A thread that asks for its CPU
// clock makes the kernel see that its turn is over, and gives way there: on a busy machine it hardly ever
// runs when the kernel's tick comes, and CPU timers expire in ticks. So what is to be sampled works like
// this.
ALWAYS_INLINE void burn(unsigned nanos) {
  spin(2 * nanos);
}

ALWAYS_INLINE void spin_a_while(void) {
  burn(1000000);
}

// xorshift: reproducible, and no lock of libc's.
ALWAYS_INLINE uint64_t next_random(uint64_t* state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

static inline void name_thread(const char* name) {
  pthread_setname_np(pthread_self(), name);
}

static inline pid_t own_tid(void) {
  return (pid_t)syscall(SYS_gettid);
}
