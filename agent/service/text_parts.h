// What the profiles of all kinds share besides their stacks. On our thread only.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "agent/service/stacks.h"
#include "encoder/text.h"

namespace profagent::service {

// Wall clock, nanoseconds since 1970.
[[nodiscard]] std::int64_t unix_nanos();
// For durations.
[[nodiscard]] std::int64_t monotonic_nanos();

// "3 samples …", one sentence for every counter of a loss that is not zero.
[[nodiscard]] std::vector<std::string> losses();

// The executable lines of the kernel's map, from which clients of text profiles find symbols themselves.
[[nodiscard]] std::string executable_memory_map();

// The frames of a debug=1 text, position by position. `stacks` must outlive it.
class TextFrames {
 public:
  explicit TextFrames(const ReadableStacks& stacks);
  [[nodiscard]] std::span<const encoder::TextFrame> frames() const noexcept { return frames_; }

 private:
  std::vector<encoder::TextFrame> frames_;
};

}  // namespace profagent::service
