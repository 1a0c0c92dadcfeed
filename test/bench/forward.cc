// The least that a preloaded library can do: malloc and free, passed on through a pointer. What any
// interposer costs before it does anything, and so the yardstick beside which the agent's own cost is shown.
#include <cstddef>

#include <dlfcn.h>

#define EXPORTED extern "C" [[gnu::visibility("default")]]

namespace {

using Malloc = void* (*)(std::size_t);
using Free = void (*)(void*);

void* first_malloc(std::size_t size);
void first_free(void* block);

// Each starts at a function that resolves both, so that a call is one load and one jump.
Malloc real_malloc = first_malloc;
Free real_free = first_free;

[[gnu::constructor]] void resolve() {
  real_free = reinterpret_cast<Free>(dlsym(RTLD_NEXT, "free"));
  real_malloc = reinterpret_cast<Malloc>(dlsym(RTLD_NEXT, "malloc"));
}

void* first_malloc(std::size_t size) {
  resolve();
  return real_malloc(size);
}

void first_free(void* block) {
  resolve();
  real_free(block);
}

}  // namespace

EXPORTED void* malloc(std::size_t size) {
  return real_malloc(size);
}

EXPORTED void free(void* block) {
  real_free(block);
}
