// Requests that must fail: nothing of them may reach the profile, and errno must say ENOMEM.
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "test/victims/kit.h"

static volatile size_t huge = SIZE_MAX;

static void expect_failure(const void* block, const char* what) {
  char line[80];
  if (block == NULL && errno == ENOMEM) return;
  snprintf(line, sizeof line, "%s: %s\n", what, block == NULL ? "wrong errno" : "gave a block");
  say(line);
}

NOINLINE void impossible(void) {
  errno = 0;
  expect_failure(calloc(huge, 2), "calloc");
  errno = 0;
  expect_failure(calloc(huge / 2 + 2, 2), "calloc that wraps to 2");
  errno = 0;
  expect_failure(malloc(huge), "malloc");
  errno = 0;
  expect_failure(reallocarray(NULL, huge, 2), "reallocarray");
  errno = 0;
  expect_failure(aligned_alloc(4096, huge - 8191), "aligned_alloc");
  void* block = (void*)1;
  errno = 0;
  if (posix_memalign(&block, 3, 8) != EINVAL || block != (void*)1 || errno != 0) say("posix_memalign(3)\n");
  END_OF_FRAME();
}

NOINLINE void survivor(void) {
  char* volatile kept = malloc(4441);
  char* block = kept;
  if (block == NULL) _exit(4);
  block[0] = 's';
  errno = 0;
  expect_failure(realloc(kept, huge), "realloc");
  errno = 0;
  expect_failure(reallocarray(kept, huge, 2), "reallocarray of a block");
  if (kept[0] != 's') say("a failed realloc changed the block\n");
  END_OF_FRAME();
}

int main(void) {
  impossible();
  survivor();
  serve_until_end();
  return 0;
}
