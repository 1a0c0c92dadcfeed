#include <stdlib.h>

#include "test/victims/kit.h"

__attribute__((visibility("default"))) NOINLINE void* plugin_alloc(size_t size) {
  void* block = malloc(size);
  USE(block);
  return block;
}

__attribute__((visibility("default"))) NOINLINE void plugin_free(void* block) {
  free(block);
  END_OF_FRAME();
}
