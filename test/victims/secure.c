// Says what the loader made of it (AT_SECURE, LD_PRELOAD in its environment, the agent in its address space)
// and that its work is done.
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>

#include "test/victims/kit.h"

static int agent_is_mapped(void) {
  FILE* maps = fopen("/proc/self/maps", "r");
  char line[4096];
  int found = 0;
  while (maps != NULL && fgets(line, sizeof line, maps) != NULL) found |= strstr(line, "agent.so") != NULL;
  if (maps != NULL) fclose(maps);
  return found;
}

NOINLINE long work(void) {
  long sum = 0;
  for (long i = 1; i <= 1000; ++i) {
    long* block = malloc((size_t)i * sizeof(long));
    block[i - 1] = i;
    sum += block[i - 1];
    free(block);
  }
  END_OF_FRAME();
  return sum;
}

int main(void) {
  char line[96];
  snprintf(line, sizeof line, "secure %d preload %d agent %d work %ld\n", getauxval(AT_SECURE) != 0,
           getenv("LD_PRELOAD") != NULL, agent_is_mapped(), work());
  say(line);
  serve_until_end();
  return 0;
}
