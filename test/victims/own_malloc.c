// An executable with a malloc of its own: it comes before any preloaded library, so the agent sees nothing,
// or (worse) only what libc's own functions ask of the agent's hooks. A bump allocator is enough.
#include <stdlib.h>

#include "test/victims/kit.h"

static char arena[64 << 20];
static size_t used;

__attribute__((visibility("default"))) void* malloc(size_t size) {
  const size_t whole = (size + 31) & ~(size_t)15;
  const size_t at = __atomic_fetch_add(&used, whole, __ATOMIC_RELAXED);
  if (at + whole > sizeof arena) return NULL;
  *(size_t*)(arena + at) = size;
  return arena + at + 16;
}

__attribute__((visibility("default"))) void free(void* block) {
  USE(block);
}

__attribute__((visibility("default"))) void* calloc(size_t count, size_t size) {
  return malloc(count * size);
}

__attribute__((visibility("default"))) void* realloc(void* block, size_t size) {
  void* fresh = malloc(size);
  if (fresh != NULL && block != NULL) {
    const size_t old = *(size_t*)((char*)block - 16);
    memcpy(fresh, block, old < size ? old : size);
  }
  return fresh;
}

NOINLINE void own_home(void) {
  void* block = malloc(1999993);
  USE(block);
  END_OF_FRAME();
}

int main(void) {
  own_home();
  free(strdup("through libc"));
  serve_until_end();
  return 0;
}
