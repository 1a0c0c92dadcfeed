// The other names of free().
#include "hooks/export.h"
#include "hooks/memory.h"
#include "hooks/real.h"

namespace profagent::hooks {

namespace {

// The record goes first: after the real free another thread may own the address.
void forget(void* block) {
  if (may_be_sampled(block)) [[unlikely]]
    safe::heap_recorder.on_free(block);
}

}  // namespace

extern "C" {

PROFAGENT_EXPORT(cfree)
void cfree(void* block) {
  forget(block);
  real::cfree(block);
}

// Weak, as C23's are in a libc that does not have them yet: a program may bring its own.
PROFAGENT_EXPORT(free_sized) __attribute__((weak)) void free_sized(void* block, std::size_t size) {
  forget(block);
  real::free_sized(block, size);
}

PROFAGENT_EXPORT(free_aligned_sized)
__attribute__((weak)) void free_aligned_sized(void* block, std::size_t alignment, std::size_t size) {
  forget(block);
  real::free_aligned_sized(block, alignment, size);
}

}  // extern "C"

}  // namespace profagent::hooks
