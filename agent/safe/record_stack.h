// From a place in the program to the number of its stack, with what could not be done counted.
#pragma once

#include <algorithm>
#include <span>

#include "agent/safe/settings.h"
#include "agent/safe/types.h"
#include "agent/safe/unwind.h"

namespace profagent::safe {

// Frames that a recorder keeps of a stack.
[[nodiscard]] inline std::size_t recorded_depth() noexcept {
  const auto depth = static_cast<std::size_t>(settings.stack_depth.load(std::memory_order_relaxed));
  return std::min(depth, kMaxStackDepth);
}

// Captures and interns the stack above `start`. `room` is scratch for recorded_depth() frames, the caller's
// because some callers have next to no stack. Any thread, signal handlers too.
[[nodiscard]] StackId record_stack(const StartFrame& start, std::span<Pc> room) noexcept;

}  // namespace profagent::safe
