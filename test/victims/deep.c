// Allocates at the end of a recursion of the given depth.
#include <stdlib.h>

#include "test/victims/kit.h"

static void* kept[8];

NOINLINE void deep_leaf(void) {
  kept[0] = malloc(6007);
  END_OF_FRAME();
}

NOINLINE void recurse(int depth) {  // NOLINT(misc-no-recursion)
  if (depth > 1)
    recurse(depth - 1);
  else
    deep_leaf();
  END_OF_FRAME();
}

NOINLINE void recurse_elsewhere(int depth) {  // NOLINT(misc-no-recursion)
  if (depth > 1)
    recurse_elsewhere(depth - 1);
  else
    kept[1] = malloc(6011);
  END_OF_FRAME();
}

int main(int argc, char** argv) {
  const int depth = argc > 1 ? atoi(argv[1]) : 100;
  recurse(depth);
  recurse_elsewhere(depth);
  serve_until_end();
  return 0;
}
