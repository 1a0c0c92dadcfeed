// errno must come out of every successful call as it went in: from the very first call of a process on, and
// from free().
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "test/victims/kit.h"

enum { kSentinel = 77 };
static int changed;

static void* check(void* block) {
  if (errno != kSentinel) ++changed;
  errno = kSentinel;
  return block;
}

static void check_free(void* block) {
  free(block);
  check(NULL);
}

int main(void) {
  errno = kSentinel;
  check_free(check(malloc(10)));
  for (size_t i = 0; i < 20000; ++i) {
    const size_t size = i * 37 % 200000;
    check_free(check(malloc(size)));
    check_free(check(calloc(1, size)));
    check_free(check(realloc(check(malloc(size)), size + 100)));
    check_free(check(reallocarray(NULL, 2, size + 1)));
    check_free(check(memalign(64, size)));
    check_free(check(aligned_alloc(64, 64 * (i % 100 + 1))));
    check_free(check(valloc(size)));
    check_free(check(pvalloc(size)));
    void* block = NULL;
    if (posix_memalign(&block, 32, size) != 0) _exit(4);
    check_free(check(block));
  }
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  sigprocmask(SIG_BLOCK, &signals, NULL);
  raise(SIGUSR1);
  errno = kSentinel;
  if (sigwaitinfo(&signals, NULL) != SIGUSR1) _exit(5);
  check(NULL);
  char line[64];
  snprintf(line, sizeof line, "changed %d times\n", changed);
  say(line);
  return changed != 0;
}
