// The program of Go's TestMemoryProfiler: 32 live blocks of 32 bytes, 1024 freed ones of 1024 bytes, one
// freed of 2 MiB.
#include <stdlib.h>

#include "test/victims/kit.h"

static void* kept[32];

NOINLINE void small_live(void) {
  for (int i = 0; i < 32; ++i) kept[i] = malloc(32);
  END_OF_FRAME();
}

NOINLINE void medium_gone(void) {
  for (int i = 0; i < 1024; ++i) {
    void* block = malloc(1024);
    USE(block);
    free(block);
  }
  END_OF_FRAME();
}

NOINLINE void large_gone(void) {
  void* block = malloc(2 << 20);
  USE(block);
  free(block);
  END_OF_FRAME();
}

int main(void) {
  small_live();
  medium_gone();
  large_gone();
  serve_until_end();
  return 0;
}
