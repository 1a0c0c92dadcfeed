#include <stdlib.h>

#include "test/victims/kit.h"

// Nobody's to free: the library goes, the block stays.
__attribute__((visibility("default"))) NOINLINE void in_module_b(void) {
  void* block = malloc(1999957);
  USE(block);
  END_OF_FRAME();
}
