// What the profiles of all kinds share besides their stacks. On our thread only.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "agent/service/stacks.h"
#include "encoder/text.h"

namespace profagent::service {

// "3 samples …", one sentence for every counter of a loss that is not zero.
[[nodiscard]] std::vector<std::string> losses();

// The executable lines of the kernel's map, from which clients of text profiles find symbols themselves.
[[nodiscard]] std::string executable_memory_map();

// The frames of a text: one for each function, inlined or not. `stacks` must outlive it.
class TextFrames {
 public:
  explicit TextFrames(const ReadableStacks& stacks);
  [[nodiscard]] std::span<const encoder::TextFrame> frames() const noexcept { return frames_; }

  // Makes positions in `stacks` positions in frames(). Returns where the function that has the frame at
  // `index` has come to stand.
  std::size_t expand(std::vector<std::uint32_t>& positions, std::size_t index = 0) const;

 private:
  std::vector<encoder::TextFrame> frames_;
  std::vector<std::uint32_t> first_;  // by position in the stacks, and one more
};

}  // namespace profagent::service
