// A program of one thread whose alternate signal stack has next to no room, or much.
//
//   small      2 KiB, by sigaltstack(); "raw" by syscall()
//   large      64 KiB
//   quietly    small and large again, without an allocation after it
//   pending    the signals of clients are blocked; "unblock"
//   vfork      a child that shares our memory, and gives up its stack; "vfork handler": sets one for SIGURG
//   close      all descriptors but the first three
//   allocate   much
//   spin       for about a second
//   fork       a child, which lives as long as its parent; says "child" and its number
//   brief N    as many threads, one after the other
//   thread     one more thread that spins, with 2 KiB; "no longer": with 64 KiB
//   handler    for SIGURG, past libc; "report" says whether it was "handled"
//   change     two more threads that spin, and have 2 and 64 KiB in turn, one mostly for 60 ms, one for 1 ms
//
// Says "refused" when the kernel does not take 2 KiB.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

enum { kSmall = 2048, kLarge = 64 << 10 };
static char memory[4][kLarge];

static void have_stack(char* bytes, size_t size) {
  const stack_t stack = {.ss_sp = bytes, .ss_size = size};
  if (sigaltstack(&stack, NULL) != 0) say("refused\n");
}

NOINLINE void* change_often(void* bytes) {
  for (;;) {
    have_stack(bytes, kSmall);
    burn(60000000);
    have_stack(bytes, kLarge);
    burn(3000000);
    have_stack(bytes, kSmall);
    burn(3000000);
    have_stack(bytes, kLarge);
    burn(60000000);
  }
  return NULL;
}

// Between being asked and the kernel's next tick, for instance.
NOINLINE void* change_fast(void* bytes) {
  for (;;) {
    have_stack(bytes, kSmall);
    burn(1000000);
    have_stack(bytes, kLarge);
    burn(1000000);
  }
  return NULL;
}

static int is_small, may_be_large;

NOINLINE void* stay_small(void* bytes) {
  name_thread("stays");
  have_stack(bytes, kSmall);
  __atomic_store_n(&is_small, 1, __ATOMIC_RELEASE);
  while (!__atomic_load_n(&may_be_large, __ATOMIC_RELAXED)) spin_a_while();
  have_stack(bytes, kLarge);
  __atomic_store_n(&is_small, 0, __ATOMIC_RELEASE);
  for (;;) spin_a_while();
  return NULL;
}

static void await_small(int wanted) {
  while (__atomic_load_n(&is_small, __ATOMIC_ACQUIRE) != wanted) usleep(1000);
}

static volatile sig_atomic_t is_handled;
static void handle(int number) {
  (void)number;
  is_handled = 1;
}

// Past libc, as far as a program in C can go: by the system call, whose structure has the mask last.
static void set_handler_by_system_call(void) {
  struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
  sigaction(SIGUSR2, &action, NULL);
  struct {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    unsigned long mask;
  } as_kernel_has_it;
  syscall(SYS_rt_sigaction, SIGUSR2, NULL, &as_kernel_has_it, 8);
  syscall(SYS_rt_sigaction, SIGURG, &as_kernel_has_it, NULL, 8);
}

// By this call it becomes known to the agent.
NOINLINE void* end_at_once(void* unused) {
  const stack_t none = {.ss_flags = SS_DISABLE};
  sigaltstack(&none, NULL);
  return unused;
}

static void start(void* (*routine)(void*), char* bytes) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, routine, bytes) != 0) _exit(1);
}

static void start_brief(int count) {
  for (int i = 0; i < count; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, end_at_once, NULL) != 0) _exit(1);
    pthread_join(thread, NULL);
  }
}

static void block(int how) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGURG);
  sigaddset(&signals, SIGCONT);
  sigprocmask(how, &signals, NULL);
}

static void share_memory(int sets_handler) {
  const stack_t none = {.ss_flags = SS_DISABLE};
  const pid_t child = vfork();  // NOLINT(clang-analyzer-security.insecureAPI.vfork)
  if (child == 0) {
    if (sets_handler) signal(SIGURG, handle);
    if (!sets_handler) sigaltstack(&none, NULL);
    _exit(0);
  }
  waitpid(child, NULL, 0);
}

static void fork_child(void) {
  const pid_t parent = getpid();
  if (fork() != 0) return;
  char line[32];
  snprintf(line, sizeof line, "child %d\n", (int)getpid());
  say(line);
  // The agent looks after itself when its program allocates.
  for (; getppid() == parent; usleep(10000)) free(malloc(100000));
  _exit(0);
}

static void allocate(int times) {
  for (int i = 0; i < times; ++i) free(malloc(100000));
}

static void obey(const char* command) {
  const stack_t small = {.ss_sp = memory[0], .ss_size = kSmall};
  if (strcmp(command, "small") == 0) have_stack(memory[0], kSmall);
  if (strcmp(command, "raw") == 0 && syscall(SYS_sigaltstack, &small, NULL) != 0) say("refused\n");
  if (strcmp(command, "large") == 0) have_stack(memory[0], kLarge);
  if (strcmp(command, "pending") == 0) block(SIG_BLOCK);
  if (strcmp(command, "unblock") == 0) block(SIG_UNBLOCK);
  if (strcmp(command, "vfork") == 0) share_memory(0);
  if (strcmp(command, "vfork handler") == 0) share_memory(1);
  if (strcmp(command, "close") == 0) syscall(SYS_close_range, 3, ~0U, 0);
  if (strcmp(command, "allocate") == 0) allocate(20000);
  if (strcmp(command, "spin") == 0) burn(1000000000);
  if (strcmp(command, "fork") == 0) fork_child();
  if (strncmp(command, "brief ", 6) == 0) start_brief(atoi(command + 6));
  if (strcmp(command, "thread") == 0) {
    start(stay_small, memory[1]);
    await_small(1);
  }
  if (strcmp(command, "no longer") == 0) {
    __atomic_store_n(&may_be_large, 1, __ATOMIC_RELAXED);
    await_small(0);
  }
  if (strcmp(command, "handler") == 0) set_handler_by_system_call();
  if (strcmp(command, "report") == 0) say(is_handled ? "handled\n" : "not handled\n");
  if (strcmp(command, "change") == 0) {
    start(change_often, memory[2]);
    start(change_fast, memory[3]);
  }
}

int main(void) {
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    if (strcmp(command, "quietly") == 0) {
      have_stack(memory[0], kSmall);
      have_stack(memory[0], kLarge);
    } else {
      obey(command);
      allocate(10);
    }
    say("done\n");
  }
  return 0;
}
