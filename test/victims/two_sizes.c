// Two sizes from one line: two samples with one stack.
#include <stdlib.h>

#include "test/victims/kit.h"

static void* kept[8];

NOINLINE void two_sizes(void) {
  static const volatile size_t sizes[] = {7001, 7013, 7001, 7013, 7001};
  for (volatile int i = 0; i < 5; ++i) kept[i] = malloc(sizes[i]);
  END_OF_FRAME();
}

int main(void) {
  two_sizes();
  serve_until_end();
  return 0;
}
