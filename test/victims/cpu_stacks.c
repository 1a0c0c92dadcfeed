// Threads with little room for a signal: stacks of 16 KiB, and alternate stacks of various sizes on which
// handlers of the program's own burn. What lies below each alternate stack is watched.
//
//   small            eight threads with PTHREAD_STACK_MIN
//   alternate SIZE   four threads with an alternate stack of SIZE bytes; handlers run on it if it is large
//   enough for one late SIZE        likewise, but they set it up when the command "late" comes
//
// Command "report" prints how many bytes below the alternate stacks changed, and how often handlers ran.
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

enum { kThreads = 4, kGuard = 16 << 10 };
static unsigned char* memory[kThreads];
static size_t size;
static unsigned long handled;
static int set_up = 1;

NOINLINE void burn_in_handler(void) {
  burn(3000000);
  END_OF_FRAME();
}

static void handle(int number) {
  (void)number;
  burn_in_handler();
  __atomic_add_fetch(&handled, 1, __ATOMIC_RELAXED);
}

static void use_alternate_stack(unsigned char* guarded) {
  const stack_t alternate = {.ss_sp = guarded + kGuard, .ss_size = size};
  if (sigaltstack(&alternate, NULL) != 0) say(errno == ENOMEM ? "too small\n" : "sigaltstack failed\n");
}

NOINLINE void burn_between(void) {
  burn(3000000);
  END_OF_FRAME();
}

NOINLINE void* burn_with_alternate(void* guarded) {
  name_thread("alternate");
  while (!__atomic_load_n(&set_up, __ATOMIC_ACQUIRE)) burn_between();
  use_alternate_stack(guarded);
  // The kernel writes nearly as much as it says here, and the handler's calls come on top.
  const int fits = size >= getauxval(AT_MINSIGSTKSZ) + 256;
  for (;;) {
    burn_between();
    if (fits) pthread_kill(pthread_self(), SIGUSR1);
  }
  return NULL;
}

NOINLINE void* burn_small(void* unused) {
  name_thread("small");
  for (;;) burn_between();
  return unused;
}

static void start_small(void) {
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, PTHREAD_STACK_MIN);
  for (int i = 0; i < 8; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, &small, burn_small, NULL) != 0) _exit(1);
  }
}

static void start_alternate(void) {
  struct sigaction action = {.sa_handler = handle, .sa_flags = SA_ONSTACK};
  sigaction(SIGUSR1, &action, NULL);
  for (int i = 0; i < kThreads; ++i) {
    memory[i] = mmap(NULL, kGuard + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(memory[i], 0x5a, kGuard);
    pthread_t thread;
    if (pthread_create(&thread, NULL, burn_with_alternate, memory[i]) != 0) _exit(1);
  }
}

static unsigned long changed_bytes(void) {
  unsigned long changed = 0;
  for (int i = 0; i < kThreads && memory[i] != NULL; ++i)
    for (int at = 0; at < kGuard; ++at) changed += memory[i][at] != 0x5a;
  return changed;
}

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  if (argc > 2) size = (size_t)atol(argv[2]);
  set_up = strcmp(argv[1], "late") != 0;
  if (strcmp(argv[1], "small") == 0)
    start_small();
  else
    start_alternate();
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    if (strcmp(command, "late") == 0) __atomic_store_n(&set_up, 1, __ATOMIC_RELEASE);
    char line[64];
    snprintf(line, sizeof line, "changed %lu handled %lu\n", changed_bytes(), handled);
    say(line);
    say("done\n");
  }
  exit(0);
}
