// A needed library: its constructor uses the heap, makes a thread, throws and catches, before main and before
// a preloaded library's constructor.
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "test/victims/kit.h"

extern "C" {
__attribute__((visibility("default"))) void* early_blocks[16];
__attribute__((visibility("default"))) int early_thread_ran;
}

extern "C" NOINLINE void early_alloc() {
  for (void*& block : early_blocks) {
    block = std::malloc(101);
    *static_cast<char*>(block) = 'e';
  }
  END_OF_FRAME();
}

__attribute__((constructor)) static void start() {
  early_alloc();
  std::thread([] {
    std::free(std::malloc(1));
    early_thread_ran = 1;
  }).join();
  try {
    throw std::runtime_error("early");
  } catch (const std::runtime_error&) {
    END_OF_FRAME();
  }
}
