// "Was this pointer sampled?" answered with "certainly not" for nearly every pointer, by one byte load.
//
// A byte per page number, modulo the table: it counts the live sampled blocks whose address falls on such a
// page, and sticks at its maximum (then it only costs time). Neighbouring pages share a cache line, so a
// program that frees what it just allocated stays in the first-level cache. An untouched filter is untouched
// memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace profagent::safe {

class HeapFilter {
 public:
  // No ordering is needed: who frees a block has got its address from who allocated it, and that hand-over
  // orders the increment before the load.
  [[nodiscard, gnu::always_inline]] bool may_contain(const void* block) const noexcept {
#if defined(__x86_64__)
    // One compare with memory where the compiler makes a load and a test of it: free() has no instruction to
    // spare.
    bool hit = false;
    asm("cmpb $0, %1" : "=@ccne"(hit) : "m"(bytes_[index(block)]));
    return hit;
#else
    return __atomic_load_n(&bytes_[index(block)], __ATOMIC_RELAXED) != 0;
#endif
  }

  // Before the block is entered in the live table. False when other threads kept changing the byte.
  [[nodiscard]] bool add(const void* block) noexcept;
  // After it was removed there.
  void remove(const void* block) noexcept;

 private:
  static constexpr std::size_t kBytes = std::size_t{1} << 20;
  static constexpr unsigned kPageShift = 12;
  static constexpr std::uint8_t kStuck = 255;
  static constexpr int kMaxTries = 64;

  [[gnu::always_inline]] static std::size_t index(const void* block) noexcept {
    return (reinterpret_cast<std::uintptr_t>(block) >> kPageShift) & (kBytes - 1);
  }

  // Accessed atomically; not std::atomic, because a million of its constructors are too many for Clang's
  // constinit.
  std::uint8_t bytes_[kBytes] = {};
};

[[gnu::visibility("hidden")]] extern constinit HeapFilter heap_filter;

}  // namespace profagent::safe
