// Threads that have all signals blocked, as libraries' own threads do. None may receive one that the program
// has not sent, and none may be shown as idle because it cannot be sampled.
//
//   wait    one in sigwaitinfo(), one in sigtimedwait(), one that reads a signalfd, all for every signal, and
//   one that
//           burns; each between a little burning, the first until the command "sigwait"
//   many    a hundred, "blocked-0" to "blocked-99", that burn for one part in a hundred of the time
//
// Command "report" prints how many signals came.
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

static unsigned received;
static int last_received;

static void note(int number) {
  __atomic_store_n(&last_received, number, __ATOMIC_RELAXED);
  __atomic_add_fetch(&received, 1, __ATOMIC_RELAXED);
}

static const struct timespec kShort = {0, 1000000};

NOINLINE void* wait_by_sigtimedwait(void* all) {
  name_thread("sigtimedwait");
  for (;;) {
    burn(2000000);
    const int number = sigtimedwait(all, NULL, &kShort);
    if (number > 0 || errno != EAGAIN) note(number);
  }
  return NULL;
}

static int is_told_to_wait;

NOINLINE void* wait_by_sigwait(void* all) {
  name_thread("sigwait");
  while (!__atomic_load_n(&is_told_to_wait, __ATOMIC_RELAXED)) spin_a_while();
  int number = 0;
  sigwait(all, &number);
  note(number);
  return NULL;
}

NOINLINE void* wait_by_signalfd(void* all) {
  name_thread("signalfd");
  struct pollfd ready = {signalfd(-1, all, SFD_CLOEXEC), POLLIN, 0};
  for (;;) {
    burn(2000000);
    struct signalfd_siginfo info;
    if (poll(&ready, 1, 1) != 0 && read(ready.fd, &info, sizeof info) == sizeof info)
      note((int)info.ssi_signo);
  }
  return NULL;
}

NOINLINE void* burn_blocked(void* name) {
  name_thread(name);
  for (;;) burn(1000000);
  return NULL;
}

static unsigned named;

NOINLINE void* burn_a_little(void* name) {
  name_thread(name);
  __atomic_add_fetch(&named, 1, __ATOMIC_RELAXED);
  for (;;) {
    burn(500000);
    usleep(50000);
  }
  return NULL;
}

static void start(void* (*function)(void*), void* argument) {
  pthread_t thread;
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 64 << 10);
  if (pthread_create(&thread, &small, function, argument) != 0) _exit(1);
}

int main(int argc, char** argv) {
  static sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, NULL);
  static char names[100][16];
  if (argc > 1 && strcmp(argv[1], "many") == 0) {
    for (int i = 0; i < 100; ++i) {
      snprintf(names[i], sizeof names[i], "blocked-%d", i);
      start(burn_a_little, names[i]);
    }
    while (__atomic_load_n(&named, __ATOMIC_RELAXED) < 100) usleep(1000);
  } else {
    start(wait_by_sigtimedwait, &all);
    start(wait_by_sigwait, &all);
    start(wait_by_signalfd, &all);
    start(burn_blocked, "burner");
  }
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    if (strcmp(command, "sigwait") == 0) __atomic_store_n(&is_told_to_wait, 1, __ATOMIC_RELAXED);
    char line[64];
    snprintf(line, sizeof line, "received %u, last %d\n", received, last_received);
    say(line);
    say("done\n");
  }
  exit(0);
}
