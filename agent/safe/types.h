// The few types that every part of the ground floor speaks.
#pragma once

#include <cstddef>
#include <cstdint>

namespace profagent::safe {

// An instruction address as profiles show it: the exact pc of an interrupted frame, and for a caller the
// address of its call, that is the return address minus one (see caller_pc).
using Pc = std::uintptr_t;

// An address as `call` pushed it.
enum class ReturnAddress : std::uintptr_t {};

// The one place that subtracts one. A return address may belong to the next function (after a call that
// never returns) or the next line; the byte before it is always inside the call.
[[nodiscard]] constexpr Pc caller_pc(ReturnAddress address) noexcept {
  return static_cast<std::uintptr_t>(address) - 1;
}

// Dense number of an interned stack; 0 is "no stack" (the table was full, or nothing could be walked).
using StackId = std::uint32_t;
inline constexpr StackId kNoStack = 0;

// Dense number of a profile's row (bucket_table.h); 0 is "none".
using BucketId = std::uint32_t;

using Nanos = std::int64_t;
inline constexpr Nanos kNanosPerSecond = 1'000'000'000;

// The deepest stack that can be recorded; PROFAGENT_STACK_DEPTH is at most this.
inline constexpr std::size_t kMaxStackDepth = 512;
inline constexpr std::size_t kDefaultStackDepth = 128;

}  // namespace profagent::safe
