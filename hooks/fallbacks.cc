#include "hooks/fallbacks.h"

#include <cstring>

#include <malloc.h>

#include "hooks/real.h"

namespace profagent::hooks::fallback {

namespace {

// jemalloc.h: the low six bits are the alignment's logarithm, 0x40 asks for zeroed memory.
constexpr int kAlignmentMask = 0x3f;
constexpr int kZero = 0x40;
constexpr std::size_t kMallocAlignment = alignof(std::max_align_t);

std::size_t alignment_of(int flags) {
  return std::size_t{1} << (flags & kAlignmentMask);
}

}  // namespace

void cfree(void* block) {
  real::free(block);
}
void free_sized(void* block, std::size_t) {
  real::free(block);
}
void free_aligned_sized(void* block, std::size_t, std::size_t) {
  real::free(block);
}

void* mallocx(std::size_t size, int flags) {
  if (alignment_of(flags) <= kMallocAlignment) {
    return (flags & kZero) != 0 ? real::calloc(1, size) : real::malloc(size);
  }
  void* block = nullptr;
  if (real::posix_memalign(&block, alignment_of(flags), size) != 0) return nullptr;
  return (flags & kZero) != 0 ? std::memset(block, 0, size) : block;
}

void* rallocx(void* block, std::size_t size, int flags) {
  const std::size_t old_size = malloc_usable_size(block);
  void* moved = nullptr;
  if (alignment_of(flags) <= kMallocAlignment) {
    moved = real::realloc(block, size);
  } else {
    moved = mallocx(size, flags & kAlignmentMask);
    if (moved == nullptr) return nullptr;
    std::memcpy(moved, block, old_size < size ? old_size : size);
    real::free(block);
  }
  if (moved != nullptr && (flags & kZero) != 0 && size > old_size) {
    std::memset(static_cast<char*>(moved) + old_size, 0, size - old_size);
  }
  return moved;
}

void dallocx(void* block, int) {
  real::free(block);
}
void sdallocx(void* block, std::size_t, int) {
  real::free(block);
}

}  // namespace profagent::hooks::fallback
