// Burns CPU time for ever in one kind of place, given as the argument:
//
//   recursion   at the end of 40 calls of recurse()
//   clock       in the vDSO, by ask_the_time()
//   handler     in handle_alarm(), a signal handler that asks for the time, above interrupted()
//   coroutine   in in_coroutine(), on the stack of a makecontext() coroutine
//   bare        in bare_loop(), assembly without call-frame information that uses rbp for itself
//   generated   in code that was written into a page, called by call_generated()
//   same        in two functions, always by the same two paths
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

NOINLINE void recurse(int depth) {  // NOLINT(misc-no-recursion)
  if (depth > 1)
    recurse(depth - 1);
  else
    spin_a_while();
  END_OF_FRAME();
}

NOINLINE void ask_the_time(void) {
  struct timespec time;
  for (int i = 0; i < 10000; ++i) clock_gettime(CLOCK_MONOTONIC, &time);
  END_OF_FRAME();
}

NOINLINE void handle_alarm(int number) {
  (void)number;
  for (int i = 0; i < 10; ++i) ask_the_time();
  END_OF_FRAME();
}

NOINLINE void interrupted(void) {
  spin_a_while();
  END_OF_FRAME();
}

static void install_alarm(void) {
  struct sigaction action = {.sa_handler = handle_alarm, .sa_flags = SA_RESTART};
  sigaction(SIGALRM, &action, NULL);
  // Not in step with the kernel's tick, at which samples are taken.
  const struct itimerval often = {{0, 7300}, {0, 7300}};
  setitimer(ITIMER_REAL, &often, NULL);
}

static ucontext_t scheduler, coroutine;

NOINLINE void in_coroutine(void) {
  for (;;) {
    spin(200000);
    swapcontext(&coroutine, &scheduler);
  }
}

static void make_coroutine(void) {
  static char stack[64 << 10];
  getcontext(&coroutine);
  coroutine.uc_stack.ss_sp = stack;
  coroutine.uc_stack.ss_size = sizeof stack;
  coroutine.uc_link = NULL;
  makecontext(&coroutine, in_coroutine, 0);
}

extern void bare_loop(unsigned long turns, unsigned long rbp);
__asm__(
    ".text\n"
    ".globl bare_loop\n"
    ".type bare_loop, @function\n"
    "bare_loop:\n"
    "  push %rbp\n"
    "  mov %rsi, %rbp\n"
    "1:\n"
    "  dec %rdi\n"
    "  jnz 1b\n"
    "  pop %rbp\n"
    "  ret\n"
    ".size bare_loop, .-bare_loop\n");

// The same loop without a name: mov %rdi, %rcx; 1: dec %rcx; jnz 1b; ret
static const unsigned char kLoop[] = {0x48, 0x89, 0xf9, 0x48, 0xff, 0xc9, 0x75, 0xfb, 0xc3};
static void (*generated)(unsigned long turns);

static void generate(void) {
  void* page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memcpy(page, kLoop, sizeof kLoop);
  mprotect(page, 4096, PROT_READ | PROT_EXEC);
  generated = (void (*)(unsigned long))page;
}

NOINLINE void call_generated(void) {
  generated(1000000);
  END_OF_FRAME();
}

NOINLINE void same_leaf(void) {
  spin(1000000);
}

NOINLINE void first_path(void) {
  same_leaf();
  END_OF_FRAME();
}

NOINLINE void second_path(void) {
  same_leaf();
  END_OF_FRAME();
}

NOINLINE void* burn_for_ever(void* argument) {
  const char* place = argument;
  name_thread(place);
  for (unsigned long round = 0;; ++round) {
    if (strcmp(place, "recursion") == 0) recurse(40);
    if (strcmp(place, "clock") == 0) ask_the_time();
    if (strcmp(place, "handler") == 0) interrupted();
    if (strcmp(place, "coroutine") == 0) swapcontext(&scheduler, &coroutine);
    if (strcmp(place, "bare") == 0) bare_loop(1000000, round % 2 == 0 ? 0x80000 : round);
    if (strcmp(place, "generated") == 0) call_generated();
    if (strcmp(place, "same") == 0) (round % 2 == 0 ? first_path : second_path)();
  }
  return NULL;
}

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  make_coroutine();
  generate();
  pthread_t thread;
  pthread_create(&thread, NULL, burn_for_ever, argv[1]);
  sigset_t alarm;
  sigemptyset(&alarm);
  sigaddset(&alarm, SIGALRM);
  pthread_sigmask(SIG_BLOCK, &alarm, NULL);
  if (strcmp(argv[1], "handler") == 0) install_alarm();
  serve_until_end();
  exit(0);
}
