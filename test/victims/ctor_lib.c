// Its constructor allocates, and waits until the program's other thread has made a thousand more allocations.
#include <stdlib.h>
#include <unistd.h>

#include "test/victims/kit.h"

extern volatile unsigned long ctorhost_rounds;

__attribute__((constructor)) static void wait_for_the_other(void) {
  const unsigned long begin = __atomic_load_n(&ctorhost_rounds, __ATOMIC_RELAXED);
  while (__atomic_load_n(&ctorhost_rounds, __ATOMIC_RELAXED) < begin + 1000) {
    void* block = malloc(4321);
    USE(block);
    free(block);
    usleep(100);
  }
}
