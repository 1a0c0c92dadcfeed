// 200 threads that burn for one part in two hundred of the time, in a process that may have 50 pending
// signals, hence 50 timers, in all. The limit counts for a user; in a user namespace of its own the process
// has its user's count to itself. Command "timer": can the program still create one itself? It gives it back.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

enum { kThreads = 200, kLimit = 50 };

static void write_file(const char* path, const char* text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  if (write(fd, text, strlen(text)) < 0) say("no user map\n");
  close(fd);
}

static void have_count_for_ourselves(void) {
  char map[64];
  snprintf(map, sizeof map, "%d %d 1", (int)geteuid(), (int)geteuid());
  if (unshare(CLONE_NEWUSER) != 0) return say("no user namespace\n");
  write_file("/proc/self/setgroups", "deny");
  write_file("/proc/self/uid_map", map);
}

static unsigned named;

NOINLINE void* burn_now_and_then(void* name) {
  name_thread(name);
  __atomic_add_fetch(&named, 1, __ATOMIC_RELAXED);
  for (;;) {
    burn(500000);
    usleep(100000);
  }
  return NULL;
}

static void try_timer(void) {
  struct sigevent event = {.sigev_notify = SIGEV_NONE};
  timer_t timer;
  const int error = timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 ? 0 : errno;
  if (error == 0) timer_delete(timer);
  char line[64];
  snprintf(line, sizeof line, "timer: %s\n", error == 0 ? "ok" : strerror(error));
  say(line);
}

int main(void) {
  static char names[kThreads][16];
  have_count_for_ourselves();
  const struct rlimit few = {kLimit, kLimit};
  if (setrlimit(RLIMIT_SIGPENDING, &few) != 0) return 1;
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 64 << 10);
  for (int i = 0; i < kThreads; ++i) {
    pthread_t thread;
    snprintf(names[i], sizeof names[i], "burner-%d", i);
    if (pthread_create(&thread, &small, burn_now_and_then, names[i]) != 0) return 1;
  }
  while (__atomic_load_n(&named, __ATOMIC_RELAXED) < kThreads) usleep(1000);
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    try_timer();
    say("done\n");
  }
  exit(0);
}
