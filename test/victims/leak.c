// Keeps what leaky() allocates and frees what tidy() allocates.
// Commands: leak, tidy, forget (frees all that leaky() kept), other (other_leak() keeps one block of the same
// size).
#include <stdlib.h>

#include "test/victims/kit.h"

static size_t keep_size = 1999993;
static size_t free_size = 2000003;
static void* kept[4096];
static size_t kept_count;

static void remember(void* block) {
  if (kept_count < sizeof kept / sizeof kept[0]) kept[kept_count++] = block;
}

NOINLINE void leaky(void) {
  remember(malloc(keep_size));
  END_OF_FRAME();
}

NOINLINE void other_leak(void) {
  remember(malloc(keep_size));
  END_OF_FRAME();
}

NOINLINE void tidy(void) {
  void* block = malloc(free_size);
  USE(block);
  free(block);
  END_OF_FRAME();
}

NOINLINE void forget(void) {
  while (kept_count > 0) free(kept[--kept_count]);
  END_OF_FRAME();
}

int main(int argc, char** argv) {
  int times = 1;
  for (int i = 1; i + 1 < argc; ++i) {
    if (strcmp(argv[i], "--keep") == 0) keep_size = strtoul(argv[i + 1], NULL, 10);
    if (strcmp(argv[i], "--free") == 0) free_size = strtoul(argv[i + 1], NULL, 10);
    if (strcmp(argv[i], "--times") == 0) times = atoi(argv[i + 1]);
  }
  for (int i = 0; i < times; ++i) {
    leaky();
    tidy();
  }
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    if (strcmp(command, "leak") == 0) leaky();
    if (strcmp(command, "other") == 0) other_leak();
    if (strcmp(command, "tidy") == 0) tidy();
    if (strcmp(command, "forget") == 0) forget();
    say("done\n");
  }
  return 0;
}
