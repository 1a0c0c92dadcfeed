// A preloaded library behind the agent: counts the calls that reach it and passes them to libc, prints the
// counts at exit. An agent that allocates from the program's heap, or calls dlsym for names that are not
// there, shows in the counts.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "test/victims/kit.h"

extern void* __libc_malloc(size_t size);
extern void* __libc_calloc(size_t count, size_t size);
extern void* __libc_realloc(void* block, size_t size);
extern void __libc_free(void* block);

static unsigned long mallocs, callocs, reallocs, frees;

#define EXPORT __attribute__((visibility("default")))
static void count(unsigned long* counter) {
  __atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
}

EXPORT void* malloc(size_t size) {
  count(&mallocs);
  return __libc_malloc(size);
}
EXPORT void* calloc(size_t number, size_t size) {
  count(&callocs);
  return __libc_calloc(number, size);
}
EXPORT void* realloc(void* block, size_t size) {
  count(&reallocs);
  return __libc_realloc(block, size);
}
EXPORT void free(void* block) {
  if (block != NULL) count(&frees);
  __libc_free(block);
}

__attribute__((destructor)) static void print(void) {
  char line[160];
  const int length = snprintf(line, sizeof line, "mallocs %lu callocs %lu reallocs %lu frees %lu\n", mallocs,
                              callocs, reallocs, frees);
  const char* file = getenv("COUNT_FILE");
  const int out = file == NULL ? -1 : open(file, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);
  if (out < 0 || write(out, line, (size_t)length) != length) _exit(9);
  close(out);
}
