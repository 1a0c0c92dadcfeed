// Leaves malloc, posix_memalign, realloc and free by siglongjmp from a signal handler, 10,000 times; with an
// argument the handler has a stack of its own, inside of main()'s. After each turn it frees a block from
// before the first one. Then it keeps 1000 blocks.
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>

#include "test/victims/kit.h"

static sigjmp_buf turn;
static void* before[10000];
static void* kept[1000];

static void on_alarm(int number) {
  (void)number;
  // Allocates itself, as handlers should not.
  free(malloc(10));
  siglongjmp(turn, 1);
}

NOINLINE void allocate_until_alarm(void) {
  const struct itimerval soon = {.it_value = {.tv_usec = 60}};
  setitimer(ITIMER_REAL, &soon, NULL);
  for (;;) {
    void* block = malloc(24);
    void* aligned = NULL;
    posix_memalign(&aligned, 64, 100);
    block = realloc(block, 48);
    free(block);
    free(aligned);
  }
}

NOINLINE void afterwards(void) {
  for (size_t i = 0; i < sizeof kept / sizeof *kept; ++i) kept[i] = malloc(333);
  END_OF_FRAME();
}

int main(int argc, char** argv) {
  char own_stack[32768];
  struct sigaction action = {0};
  action.sa_handler = on_alarm;
  (void)argv;
  if (argc > 1) {
    const stack_t stack = {.ss_sp = own_stack, .ss_size = sizeof own_stack};
    sigaltstack(&stack, NULL);
    action.sa_flags = SA_ONSTACK;
  }
  sigaction(SIGALRM, &action, NULL);
  for (size_t i = 0; i < sizeof before / sizeof *before; ++i) before[i] = malloc(77);
  for (volatile size_t i = 0; i < sizeof before / sizeof *before; ++i) {
    if (sigsetjmp(turn, 1) == 0) allocate_until_alarm();
    free(before[i]);
  }
  void* last = malloc(88);
  free(last);
  afterwards();
  serve_until_end();
  return 0;
}
