// Prints what the allocator gives for many requests: usable size and alignment. The agent must not change a
// byte of it.
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "test/victims/kit.h"

static void print(const char* what, size_t size, void* block) {
  printf("%s %zu %zu %d\n", what, size, malloc_usable_size(block),
         block == NULL ? -1 : __builtin_ctzl((uintptr_t)block | 4096));
}

int main(void) {
  for (size_t size = 0; size <= 1 << 20; size = size < 300 ? size + 1 : size + size / 20 + 1) {
    void* block = malloc(size);
    print("malloc", size, block);
    block = realloc(block, size + 100);
    print("realloc", size, block);
    free(block);
    block = calloc(1, size);
    print("calloc", size, block);
    free(block);
    for (size_t alignment = 16; alignment <= 4096; alignment *= 4) {
      block = memalign(alignment, size);
      print("memalign", size, block);
      free(block);
    }
  }
  return 0;
}
