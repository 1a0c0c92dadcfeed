// One thread, which at the command "filter" forbids itself all system calls but those that it makes: to read
// commands, to answer, and to end. At "refused" it tries to with a filter that the kernel does not take; at
// "child" the child of a vfork() does; at "all" another thread does for both. At "maker" it allows itself
// as much as a new thread needs, and makes one, which allocates. "raw" is "filter" by syscall(), "twice"
// installs a second one from under the first, and at "beside" a thread that is free has one refused
// after that, and changes its rights. At "signals" it takes those for itself that were ours, at "close" it
// unloads a library, at "fork" its child allocates, each with what that needs. At "again" another thread is
// free, makes our thread come back, and comes under the second filter, which is for all.
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/victims/filter.h"
#include "test/victims/kit.h"

static struct sock_filter instructions[] = {
    LOAD_NUMBER, ALLOW(SYS_read), ALLOW(SYS_write), ALLOW(SYS_exit_group), KILL_ALL_ELSE,
};

static struct sock_filter for_threads[] = {
    LOAD_NUMBER,
    ALLOW(SYS_read),
    ALLOW(SYS_write),
    ALLOW(SYS_exit_group),
    ALLOW(SYS_clone),
    ALLOW(SYS_clone3),
    ALLOW(SYS_rseq),
    ALLOW(SYS_set_robust_list),
    ALLOW(SYS_rt_sigaction),
    ALLOW(SYS_rt_sigprocmask),
    ALLOW(SYS_sched_yield),
    ALLOW(SYS_mmap),
    ALLOW(SYS_mprotect),
    ALLOW(SYS_munmap),
    ALLOW(SYS_brk),
    KILL_ALL_ELSE,
};

static struct sock_filter with_prctl[] = {
    LOAD_NUMBER, ALLOW(SYS_read), ALLOW(SYS_write), ALLOW(SYS_exit_group), ALLOW(SYS_prctl), KILL_ALL_ELSE,
};

static struct sock_filter for_signals[] = {
    LOAD_NUMBER,           ALLOW(SYS_read),         ALLOW(SYS_write),
    ALLOW(SYS_exit_group), ALLOW(SYS_rt_sigaction), KILL_ALL_ELSE,
};

static struct sock_filter for_close[] = {
    LOAD_NUMBER, ALLOW(SYS_read), ALLOW(SYS_write), ALLOW(SYS_exit_group), ALLOW(SYS_munmap), KILL_ALL_ELSE,
};

static struct sock_filter for_fork[] = {
    LOAD_NUMBER,
    ALLOW(SYS_read),
    ALLOW(SYS_write),
    ALLOW(SYS_exit_group),
    ALLOW(SYS_clone),
    ALLOW(SYS_set_robust_list),
    ALLOW(SYS_rt_sigprocmask),
    ALLOW(SYS_getpid),
    ALLOW(SYS_gettid),
    ALLOW(SYS_wait4),
    KILL_ALL_ELSE,
};

#define PROGRAM(array)                       \
  (struct sock_fprog) {                      \
    sizeof(array) / sizeof *(array), (array) \
  }

static struct sock_filter with_seccomp[] = {
    LOAD_NUMBER, ALLOW(SYS_read), ALLOW(SYS_write), ALLOW(SYS_exit_group), ALLOW(SYS_seccomp), KILL_ALL_ELSE,
};

static int is_installed;
static int was_refused;
static int has_allocated;

static void* forbid_all(void* unused) {
  const struct sock_fprog filter = PROGRAM(instructions);
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter) != 0) _exit(2);
  __atomic_store_n(&is_installed, 1, __ATOMIC_RELEASE);
  // It cannot end without a call that the filter forbids.
  for (;;) __asm__ volatile("pause");
  return unused;
}

static void* allocate(void* unused) {
  for (int i = 0; i < 1000; ++i) {
    void* block = malloc(100000);
    USE(block);
    free(block);
  }
  __atomic_store_n(&has_allocated, 1, __ATOMIC_RELEASE);
  for (;;) sched_yield();
  return unused;
}

static void* come_under_the_second(void* unused) {
  while (!__atomic_load_n(&is_installed, __ATOMIC_ACQUIRE)) usleep(1000);
  // The agent's thread comes back with an allocation of this thread.
  free(malloc(10000000));
  say("back ");
  char command[64];
  if (!await_command(command, sizeof command)) _exit(2);
  __atomic_store_n(&has_allocated, 1, __ATOMIC_RELEASE);
  for (;;) __asm__ volatile("pause");
  return unused;
}

static void* be_refused(void* unused) {
  struct sock_fprog none = {0, instructions};
  while (!__atomic_load_n(&is_installed, __ATOMIC_ACQUIRE)) usleep(1000);
  prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &none, 0, 0);
  // The agent's thread comes back with an allocation of this thread, and goes for such a call.
  free(malloc(10000000));
  usleep(100000);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  __atomic_store_n(&was_refused, 1, __ATOMIC_RELEASE);
  for (;;) usleep(1000);
  return unused;
}

static void allocate_a_little(void) {
  // Some of these would be sampled: one in 512 KiB. libc needs no memory for them.
  for (int i = 0; i < 100000; ++i) {
    void* block = malloc(64);
    USE(block);
    free(block);
  }
}

static void nothing(int number) {
  (void)number;
}

// Every one that could be ours. Each was the default's.
static void take_signals(void) {
  static const int kNumbers[] = {SIGURG, SIGCONT, SIGWINCH, SIGCHLD, SIGPROF, SIGVTALRM, SIGSTKFLT, SIGPWR};
  for (size_t i = 0; i < sizeof kNumbers / sizeof *kNumbers; ++i) {
    struct sigaction mine = {.sa_handler = nothing};
    struct sigaction seen;
    if (sigaction(kNumbers[i], &mine, &seen) != 0 || seen.sa_handler != SIG_DFL) say("not the default\n");
    if (sigaction(kNumbers[i], NULL, &seen) != 0 || seen.sa_handler != nothing) say("not taken\n");
  }
}

static void fork_and_allocate(void) {
  int status = -1;
  const pid_t child = fork();
  if (child == 0) {
    allocate_a_little();
    exit(0);
  }
  if (waitpid(child, &status, 0) != child || status != 0) say("the child has not ended well\n");
}

static void wait_for(const int* flag) {
  while (!__atomic_load_n(flag, __ATOMIC_ACQUIRE)) sched_yield();
}

int main(void) {
  char command[64];
  void* const library = dlopen("libz.so.1", RTLD_NOW);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  say("ready\n");
  while (await_command(command, sizeof command)) {
    struct sock_fprog filter = PROGRAM(instructions);
    if (strcmp(command, "refused") == 0) filter.len = 0;
    if (strcmp(command, "child") == 0) {
      const pid_t child = vfork();
      if (child == 0) {
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
        _exit(0);
      }
      waitpid(child, NULL, 0);
    } else if (strcmp(command, "all") == 0) {
      pthread_t thread;
      if (pthread_create(&thread, NULL, forbid_all, NULL) != 0) _exit(2);
      while (!__atomic_load_n(&is_installed, __ATOMIC_ACQUIRE)) __asm__ volatile("pause");
    } else if (strcmp(command, "raw") == 0) {
      syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
    } else if (strcmp(command, "twice") == 0) {
      filter = PROGRAM(with_prctl);
      for (int i = 0; i < 2; ++i)
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) != 0) exit(2);
    } else if (strcmp(command, "beside") == 0) {
      pthread_t thread;
      if (pthread_create(&thread, NULL, be_refused, NULL) != 0) exit(2);
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
      __atomic_store_n(&is_installed, 1, __ATOMIC_RELEASE);
      while (!__atomic_load_n(&was_refused, __ATOMIC_ACQUIRE)) __asm__ volatile("pause");
    } else if (strcmp(command, "again") == 0) {
      pthread_t thread;
      const struct sock_fprog for_all = PROGRAM(instructions);
      filter = PROGRAM(with_seccomp);
      if (pthread_create(&thread, NULL, come_under_the_second, NULL) != 0) exit(2);
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
      __atomic_store_n(&is_installed, 1, __ATOMIC_RELEASE);
      while (!__atomic_load_n(&has_allocated, __ATOMIC_ACQUIRE)) __asm__ volatile("pause");
      if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &for_all) != 0) _exit(2);
    } else if (strcmp(command, "maker") == 0) {
      pthread_t thread;
      filter = PROGRAM(for_threads);
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
      if (pthread_create(&thread, NULL, allocate, NULL) != 0) _exit(2);
      wait_for(&has_allocated);
    } else if (strcmp(command, "signals") == 0) {
      filter = PROGRAM(for_signals);
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
      take_signals();
    } else if (strcmp(command, "close") == 0) {
      filter = PROGRAM(for_close);
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
      if (dlclose(library) != 0) say("not closed\n");
    } else if (strcmp(command, "fork") == 0) {
      filter = PROGRAM(for_fork);
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
      fork_and_allocate();
    } else if (strcmp(command, "allocate") != 0)
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
    allocate_a_little();
    say("done\n");
  }
  // With all that is registered for the end.
  exit(0);
}
