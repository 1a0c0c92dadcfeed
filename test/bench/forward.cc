// The least that a preloaded library can do: malloc and free, passed on through a pointer. What any
// interposer costs before it does anything, and so the yardstick beside which the agent's own cost is shown.
#include <cstddef>

#include <dlfcn.h>

#define EXPORTED extern "C" [[gnu::visibility("default")]]

namespace {

using Malloc = void* (*)(std::size_t);
using Free = void (*)(void*);

// Resolved before main: every malloc of a benchmark is one load and one jump.
Malloc real_malloc = nullptr;
Free real_free = nullptr;

[[gnu::constructor]] void resolve() {
  if (real_malloc != nullptr) return;
  real_free = reinterpret_cast<Free>(dlsym(RTLD_NEXT, "free"));
  real_malloc = reinterpret_cast<Malloc>(dlsym(RTLD_NEXT, "malloc"));
}

}  // namespace

EXPORTED void* malloc(std::size_t size) {
  if (__builtin_expect(real_malloc == nullptr, 0)) resolve();
  return real_malloc(size);
}

EXPORTED void free(void* block) {
  if (__builtin_expect(real_free == nullptr, 0)) resolve();
  real_free(block);
}
