// Allocates `total` bytes from each of three functions and says the exact truth: pieces() takes one size
// (third argument), mixed() takes sizes from 16 bytes to 1 MiB, churn() frees every block but each fourth.
// Nothing is touched, so that a gibibyte costs little memory. Arguments: mode (pieces, mixed, churn), total,
// size.
#include <stdio.h>
#include <stdlib.h>

#include "test/victims/kit.h"

static size_t live_bytes, all_bytes, live_blocks, all_blocks;

static size_t next_size(void) {
  // A fixed sequence: the randomness under test is the agent's, not ours.
  static unsigned long long state = 88172645463325252ULL;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  const int exponent = 4 + (int)(state % 16);
  return ((size_t)1 << exponent) + (size_t)(state >> 32) % ((size_t)1 << exponent);
}

NOINLINE void pieces(size_t total, size_t size) {
  while (all_bytes < total) {
    void* block = malloc(size);
    USE(block);
    all_bytes += size;
    ++all_blocks;
  }
  live_bytes = all_bytes;
  live_blocks = all_blocks;
  END_OF_FRAME();
}

NOINLINE void mixed(size_t total) {
  while (all_bytes < total) {
    const size_t size = next_size();
    void* block = malloc(size);
    USE(block);
    all_bytes += size;
    ++all_blocks;
  }
  live_bytes = all_bytes;
  live_blocks = all_blocks;
  END_OF_FRAME();
}

NOINLINE void churn(size_t total) {
  while (all_bytes < total) {
    const size_t size = next_size();
    void* block = malloc(size);
    USE(block);
    all_bytes += size;
    if (++all_blocks % 4 != 0) {
      free(block);
      continue;
    }
    live_bytes += size;
    ++live_blocks;
  }
  END_OF_FRAME();
}

int main(int argc, char** argv) {
  const char* mode = argc > 1 ? argv[1] : "mixed";
  const size_t total = argc > 2 ? strtoull(argv[2], NULL, 10) : (size_t)1 << 30;
  if (strcmp(mode, "pieces") == 0) pieces(total, argc > 3 ? strtoull(argv[3], NULL, 10) : 4096);
  if (strcmp(mode, "mixed") == 0) mixed(total);
  if (strcmp(mode, "churn") == 0) churn(total);
  char line[160];
  snprintf(line, sizeof line, "truth %zu %zu %zu %zu\n", all_blocks, all_bytes, live_blocks, live_bytes);
  say(line);
  serve_until_end();
  return 0;
}
