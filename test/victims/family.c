// Every member of the malloc family, each called from a function of its own with a size of its own.
// Holds all blocks at first; the command "free" gives them back. "--portable": without what not every
// allocator has or does alike (reallocarray and pvalloc would then come from libc and be freed by a stranger;
// realloc to nothing).
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

#include "test/victims/kit.h"

static void* held[64];
static int held_count;

static void hold(void* block) {
  if (block == NULL) _exit(4);
  held[held_count++] = block;
}

NOINLINE void via_malloc(void) {
  hold(malloc(1009));
  END_OF_FRAME();
}
NOINLINE void via_calloc(void) {
  hold(calloc(3, 1013));
  END_OF_FRAME();
}
NOINLINE void via_realloc_null(void) {
  hold(realloc(NULL, 1019));
  END_OF_FRAME();
}
NOINLINE void via_reallocarray(void) {
  hold(reallocarray(NULL, 5, 1021));
  END_OF_FRAME();
}
NOINLINE void via_aligned_alloc(void) {
  hold(aligned_alloc(64, 64 * 31));
  END_OF_FRAME();
}
NOINLINE void via_memalign(void) {
  hold(memalign(256, 1033));
  END_OF_FRAME();
}
NOINLINE void via_valloc(void) {
  hold(valloc(1039));
  END_OF_FRAME();
}
NOINLINE void via_pvalloc(void) {
  hold(pvalloc(8192));
  END_OF_FRAME();
}
NOINLINE void via_strdup(void) {
  hold(strdup("a string of forty-nine characters, and a zero...."));
  END_OF_FRAME();
}
NOINLINE void via_big(void) {
  hold(malloc(40000003));
  END_OF_FRAME();
}  // glibc maps it
NOINLINE void via_zero(void) {
  hold(malloc(0));
  END_OF_FRAME();
}

NOINLINE void via_posix_memalign(void) {
  void* block = NULL;
  if (posix_memalign(&block, 512, 1049) != 0) _exit(4);
  hold(block);
  END_OF_FRAME();
}

NOINLINE void before_grow(void** block) {
  *block = malloc(1051);
  END_OF_FRAME();
}
NOINLINE void via_realloc_grow(void* block) {
  hold(realloc(block, 100003));
  END_OF_FRAME();
}
NOINLINE void before_shrink(void** block) {
  *block = malloc(100019);
  END_OF_FRAME();
}
NOINLINE void via_realloc_shrink(void* block) {
  hold(realloc(block, 1061));
  END_OF_FRAME();
}
NOINLINE void before_same(void** block) {
  *block = malloc(1063);
  END_OF_FRAME();
}
NOINLINE void via_realloc_same(void* block) {
  hold(realloc(block, 1063));
  END_OF_FRAME();
}
// A mapped block grows by mremap and usually moves.
NOINLINE void before_remap(void** block) {
  *block = malloc(30000001);
  END_OF_FRAME();
}
NOINLINE void via_realloc_remap(void* block) {
  hold(realloc(block, 60000011));
  END_OF_FRAME();
}
NOINLINE void before_free_by_realloc(void** block) {
  *block = malloc(1069);
  END_OF_FRAME();
}
NOINLINE void realloc_to_zero(void* block) {
  // glibc frees the block and returns NULL.
  if (realloc(block, 0) != NULL) _exit(5);
  END_OF_FRAME();
}
// An aligned block may be moved by realloc, and is freed like any other.
NOINLINE void before_aligned_grow(void** block) {
  *block = memalign(1024, 1087);
  END_OF_FRAME();
}
NOINLINE void via_realloc_aligned(void* block) {
  hold(realloc(block, 100043));
  END_OF_FRAME();
}

NOINLINE void give_all_back(void) {
  while (held_count > 0) free(held[--held_count]);
  free(NULL);
  END_OF_FRAME();
}

int main(int argc, char** argv) {
  const int portable = argc > 1 && strcmp(argv[1], "--portable") == 0;
  void* block = NULL;
  via_malloc();
  via_calloc();
  via_realloc_null();
  if (!portable) via_reallocarray();
  via_aligned_alloc();
  via_memalign();
  via_valloc();
  if (!portable) via_pvalloc();
  via_strdup();
  via_big();
  via_zero();
  via_posix_memalign();
  before_grow(&block);
  via_realloc_grow(block);
  before_shrink(&block);
  via_realloc_shrink(block);
  before_same(&block);
  via_realloc_same(block);
  before_remap(&block);
  via_realloc_remap(block);
  before_free_by_realloc(&block);
  if (portable)
    free(block);
  else
    realloc_to_zero(block);
  before_aligned_grow(&block);
  via_realloc_aligned(block);
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    if (strcmp(command, "free") == 0) give_all_back();
    say("done\n");
  }
  return 0;
}
