// For victims whose threads wait for one another: the time, and whether a thread is asleep in its wait.
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static inline long long now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

// However often a signal comes.
static inline void sleep_ms(long ms) {
  const long long end = now_ns() + ms * 1000000LL;
  const struct timespec time = {end / 1000000000, end % 1000000000};
  while (now_ns() < end) clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

static inline int own_tid(void) {
  return (int)syscall(SYS_gettid);
}

static inline int is_asleep(int tid) {
  char path[64];
  char text[256];
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  const ssize_t size = read(file, text, sizeof text - 1);
  close(file);
  text[size > 0 ? size : 0] = '\0';
  const char* end_of_name = strrchr(text, ')');
  return end_of_name != NULL && end_of_name[1] == ' ' && end_of_name[2] == 'S';
}

// A thread stores its id right before the call that it waits in; from there on it sleeps nowhere else.
static inline void await_sleep(const int* tid) {
  while (__atomic_load_n(tid, __ATOMIC_ACQUIRE) == 0 || !is_asleep(__atomic_load_n(tid, __ATOMIC_ACQUIRE)))
    sleep_ms(1);
}

static inline struct timespec in_a_minute(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  time.tv_sec += 60;
  return time;
}
