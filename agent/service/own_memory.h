// Memory for our own thread, apart from the program's heap: what we need never shows in the program's
// profile, and never meets the program's allocator, its locks or its bugs.
//
// One range of address space is reserved at the first use, and touched as used. Small blocks come from spans
// of 64 KiB, one size class each; larger ones are runs of 64 KiB. What is empty goes back to the kernel. When
// the range is full, or the kernel refuses, allocate() returns nullptr.
//
// Any thread may call; a short spin lock orders them. Only our own threads do, so nobody of the program ever
// spins.
#pragma once

#include <cstddef>
#include <cstdint>

namespace profagent::service::own_memory {

// Reserves the range, which the first allocation does otherwise. False when there is no address space for it.
bool open() noexcept;
[[nodiscard]] bool is_open() noexcept;

// Aligned to 16 bytes at least. `alignment` is a power of two, at most 32 KiB.
[[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment = 16) noexcept;
// nullptr, or what allocate() or resize() returned.
void release(void* block) noexcept;
// As realloc(): nullptr and the old block untouched when there is no room.
[[nodiscard]] void* resize(void* block, std::size_t bytes) noexcept;

// Whether the block is one of ours; libc hands out others (strdup, getline).
[[nodiscard]] bool owns(const void* block) noexcept;
[[nodiscard]] std::size_t usable_size(const void* block) noexcept;

// Gives the kernel the few empty spans that are kept for the next request.
void trim() noexcept;

struct Stats {
  std::size_t reserved = 0;  // address space
  std::size_t held = 0;      // handed out by the kernel, in whole spans
  std::size_t in_use = 0;    // in blocks, rounded to their size class
  std::size_t peak_held = 0;
  std::size_t failures = 0;
};
[[nodiscard]] Stats stats() noexcept;

// In the child of a fork, before anything else here. The lock may have been held by a thread that does not
// exist in the child; then what was handed out before the fork can be read and released, but is never used
// again.
void reset_after_fork() noexcept;

}  // namespace profagent::service::own_memory
