// Prints the allocator's own accounts after some work; a profiler that uses the program's heap shows in them.
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "test/victims/kit.h"

int main(void) {
  setvbuf(stdout, NULL, _IONBF, 0);
  static void* blocks[2000];
  for (int i = 0; i < 2000; ++i) blocks[i] = malloc((size_t)i * 17 % 5000);
  for (int i = 0; i < 2000; i += 2) free(blocks[i]);
  const struct mallinfo2 info = mallinfo2();
  printf("arena %zu ordblks %zu smblks %zu hblks %zu hblkhd %zu uordblks %zu fordblks %zu\n", info.arena,
         info.ordblks, info.smblks, info.hblks, info.hblkhd, info.uordblks, info.fordblks);
  malloc_info(0, stdout);
  return 0;
}
