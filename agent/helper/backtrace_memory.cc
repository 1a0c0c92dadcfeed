// Memory for libbacktrace, in the place of its own: that takes a page from the kernel for nearly each
// function of a file, lets tables grow by a page at a time, and walks a list with each piece that is given
// back.
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <backtrace.h>
#include <sys/mman.h>

#include "agent/safe/sys.h"

namespace {

constexpr std::size_t kStep = 8;  // of small sizes; also the alignment
constexpr std::size_t kSmall = 256;
constexpr std::size_t kLarge = std::size_t{1} << 20;  // what is larger comes from the kernel as ever
constexpr std::size_t kChunk = std::size_t{8} << 20;

struct Block {
  Block* next;
};

// Lists of blocks that were given back: small ones by size, others by the power of two that they have at
// least.
class Blocks {
 public:
  // `size` is at most kSmall, or a power of two. Null without memory.
  void* take(std::size_t size) {
    size = (size + kStep - 1) / kStep * kStep;
    Block*& first = list_of(size);
    if (first != nullptr) {
      Block* const block = first;
      first = block->next;
      return block;
    }
    if (left_ < size && !refill()) return nullptr;
    left_ -= size;
    return next_ + left_;
  }
  void give_back(void* memory, std::size_t size) {
    const std::size_t skipped = (kStep - reinterpret_cast<std::uintptr_t>(memory) % kStep) % kStep;
    if (size < skipped + kStep) return;
    auto* const block = reinterpret_cast<Block*>(static_cast<std::byte*>(memory) + skipped);
    Block*& first = list_of(size - skipped);
    block->next = first;
    first = block;
  }

 private:
  Block*& list_of(std::size_t size) {
    return size <= kSmall ? small_[size / kStep]
                          : others_[static_cast<std::size_t>(std::bit_width(size)) - 1];
  }
  bool refill() {
    const long memory = profagent::safe::sys::call(
        SYS_mmap, 0, static_cast<long>(kChunk), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory < 0) return false;
    if (left_ != 0) give_back(next_, left_);
    next_ = reinterpret_cast<std::byte*>(memory);
    left_ = kChunk;
    return true;
  }

  std::array<Block*, kSmall / kStep + 1> small_ = {};
  std::array<Block*, 64> others_ = {};
  std::byte* next_ = nullptr;
  std::size_t left_ = 0;
};

constinit Blocks blocks;

}  // namespace

// libbacktrace's internal.h. `size` bytes are in use, and as many as `room` can be.
struct backtrace_vector {
  void* base;
  std::size_t size;
  std::size_t room;
};

// The names are the linker's, for --wrap.
// NOLINTBEGIN(bugprone-reserved-identifier)
extern "C" {

void* __real_backtrace_alloc(backtrace_state* state, std::size_t size, backtrace_error_callback report,
                             void* data);
void __real_backtrace_free(backtrace_state* state, void* memory, std::size_t size,
                           backtrace_error_callback report, void* data);

void* __wrap_backtrace_alloc(backtrace_state* state, std::size_t size, backtrace_error_callback report,
                             void* data) {
  void* const memory = size != 0 && size <= kSmall ? blocks.take(size) : nullptr;
  return memory != nullptr ? memory : __real_backtrace_alloc(state, size, report, data);
}

void __wrap_backtrace_free(backtrace_state* state, void* memory, std::size_t size,
                           backtrace_error_callback report, void* data) {
  if (size > kSmall) return __real_backtrace_free(state, memory, size, report, data);
  blocks.give_back(memory, size);
}

void* __wrap_backtrace_vector_grow(backtrace_state* state, std::size_t size, backtrace_error_callback report,
                                   void* data, backtrace_vector* vector) {
  if (size > vector->room) {
    // Nearly all have one or two elements: what is inlined into a function.
    const std::size_t least = std::max(vector->size + size, 2 * vector->size);
    const std::size_t all = least <= kSmall ? least : std::bit_ceil(least);
    void* base = all < kLarge ? blocks.take(all) : nullptr;
    if (base == nullptr) base = __real_backtrace_alloc(state, all, report, data);
    if (base == nullptr) return nullptr;
    if (vector->size != 0) std::memcpy(base, vector->base, vector->size);
    const std::size_t before = vector->size + vector->room;
    if (before >= kLarge) {
      __real_backtrace_free(state, vector->base, before, report, data);
    } else if (before != 0) {
      blocks.give_back(vector->base, before);
    }
    vector->base = base;
    vector->room = all - vector->size;
  }
  void* const place = static_cast<std::byte*>(vector->base) + vector->size;
  vector->size += size;
  vector->room -= size;
  return place;
}

// What is in use is the caller's for good. As in the original, the next begins behind it.
int __wrap_backtrace_vector_release(backtrace_state* state, backtrace_vector* vector,
                                    backtrace_error_callback report, void* data) {
  void* const rest = static_cast<std::byte*>(vector->base) + vector->size;
  if (vector->room >= kLarge) {
    const std::size_t odd = (kStep - vector->size % kStep) % kStep;
    __real_backtrace_free(state, static_cast<std::byte*>(rest) + odd, vector->room - odd, report, data);
  } else if (vector->room != 0) {
    blocks.give_back(rest, vector->room);
  }
  vector->room = 0;
  if (vector->size == 0) vector->base = nullptr;
  return 1;
}
}
// NOLINTEND(bugprone-reserved-identifier)
