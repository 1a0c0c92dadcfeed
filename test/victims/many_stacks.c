// Allocates by more different stacks than a small table has room for (the second argument says how many), and
// then burns in a thread: whoever needs a new stack finds the table full.
#include <pthread.h>
#include <stdlib.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

static void* volatile kept;

NOINLINE void go_left(unsigned path, int depth);

// Every bit of `path` is a turn, so every number is a stack of its own.
NOINLINE void go_right(unsigned path, int depth) {  // NOLINT(misc-no-recursion)
  if (depth == 0) {
    free(kept);
    kept = malloc(64);
  } else if (path % 2 == 0) {
    go_left(path / 2, depth - 1);
  } else {
    go_right(path / 2, depth - 1);
  }
  END_OF_FRAME();
}

NOINLINE void go_left(unsigned path, int depth) {  // NOLINT(misc-no-recursion)
  if (depth == 0) {
    free(kept);
    kept = malloc(64);
  } else if (path % 2 == 0) {
    go_left(path / 2, depth - 1);
  } else {
    go_right(path / 2, depth - 1);
  }
  END_OF_FRAME();
}

// On "fill", another place to burn: what was seen before is in the table.
static int other_place;

NOINLINE void burn_elsewhere(void) {
  spin_a_while();
  END_OF_FRAME();
}

NOINLINE void* burn_in_new_places(void* unused) {
  name_thread("newcomer");
  for (;;) {
    if (__atomic_load_n(&other_place, __ATOMIC_RELAXED))
      burn_elsewhere();
    else
      spin_a_while();
  }
  return unused;
}

int main(int argc, char** argv) {
  const unsigned count = argc > 1 ? (unsigned)atoi(argv[1]) : 1;
  pthread_t thread;
  pthread_create(&thread, NULL, burn_in_new_places, NULL);
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    if (strcmp(command, "fill") == 0) {
      for (unsigned path = 0; path < count; ++path) go_left(path, 24);
      __atomic_store_n(&other_place, 1, __ATOMIC_RELAXED);
    }
    say("done\n");
  }
  exit(0);
}
