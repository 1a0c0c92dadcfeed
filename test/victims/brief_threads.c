// Threads that come and go. Command "run COUNT MICROSECONDS": so many, sixteen at a time, each burning about
// that long in brief(); says "problem" when one could not be started.
//
// Command "again": two threads that have the same number (the kernel is asked to give it again) and different
// names, each burning for about 300 ms in its own function. Says "same number" when that worked.
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

enum { kAtATime = 16 };
static unsigned nanos;

NOINLINE void* brief(void* unused) {
  if (nanos != 0) burn(nanos);
  END_OF_FRAME();
  return unused;
}

static void run(int count) {
  pthread_t threads[kAtATime];
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 64 << 10);
  for (int done = 0; done < count; done += kAtATime) {
    for (int i = 0; i < kAtATime; ++i)
      if (pthread_create(&threads[i], &small, brief, NULL) != 0) return say("problem\n");
    for (int i = 0; i < kAtATime; ++i) pthread_join(threads[i], NULL);
  }
}

static pid_t first_tid, second_tid;

NOINLINE void* first_owner(void* unused) {
  name_thread("first");
  first_tid = own_tid();
  burn(300000000);
  END_OF_FRAME();
  return unused;
}

NOINLINE void* second_owner(void* unused) {
  second_tid = own_tid();
  if (second_tid != first_tid) return unused;
  name_thread("second");
  burn(300000000);
  END_OF_FRAME();
  return unused;
}

// Other processes may be faster: the number is asked for some times.
static void have_number_again(void) {
  enum { kTries = 100 };
  pthread_t thread;
  pthread_create(&thread, NULL, first_owner, NULL);
  pthread_join(thread, NULL);
  // The kernel has the number for a moment longer.
  while (syscall(SYS_tgkill, getpid(), first_tid, 0) == 0) usleep(100);
  char last[16];
  const int length = snprintf(last, sizeof last, "%d", (int)first_tid - 1);
  const int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  second_tid = 0;
  for (int i = 0; i < kTries && second_tid != first_tid && pwrite(fd, last, (size_t)length, 0) == length;
       ++i) {
    pthread_create(&thread, NULL, second_owner, NULL);
    pthread_join(thread, NULL);
  }
  close(fd);
  char line[64];
  snprintf(line, sizeof line, "%s number %d\n", first_tid == second_tid ? "same" : "other", (int)first_tid);
  say(line);
}

int main(void) {
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    int count = 0;
    unsigned microseconds = 0;
    if (sscanf(command, "run %d %u", &count, &microseconds) == 2) {
      nanos = microseconds * 1000;
      run(count);
    }
    if (strcmp(command, "again") == 0) have_number_again();
    say("done\n");
  }
  return 0;
}
