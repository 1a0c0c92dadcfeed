// Interned stacks, made readable: all addresses of a request are resolved at once, then each stack is a list
// of frames. On our thread only.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "agent/safe/types.h"
#include "agent/service/modules.h"
#include "agent/service/stack_pool.h"
#include "agent/service/symbols.h"
#include "encoder/profile.h"

namespace profagent::service {

// What the leaf of a stack may lose.
enum class LeafFrames {
  kAll,
  // malloc, operator new and the like: the caller is who allocated. A stack of nothing else keeps one frame.
  kWithoutAllocator,
};

// Stands for every stack that there was no room for.
inline constexpr std::string_view kOverflowFrameName = "[stack table full]";

class ReadableStacks {
 public:
  // Resolves every address of `stacks` (repetitions allowed).
  ReadableStacks(Symbolizer& symbolizer, std::span<const safe::StackId> stacks, LeafFrames leaf);
  // The same for stacks that are not interned.
  ReadableStacks(Symbolizer& symbolizer, const StackPool& stacks);

  struct Frame {
    std::uintptr_t pc = 0;  // 0: a synthetic frame
    ResolvedPc resolved;
  };
  [[nodiscard]] std::span<const Frame> frames() const noexcept { return frames_; }

  // Positions in frames(), leaf first; empty for kNoStack. `stack` was one of the constructor's.
  void positions(safe::StackId stack, std::vector<std::uint32_t>& out) const;
  void positions(std::span<const safe::Pc> pcs, std::vector<std::uint32_t>& out) const;

  [[nodiscard]] const ModuleSet& modules() const noexcept { return modules_; }

  // Adds the mappings and all frames to an empty profile. The result holds a location for each position.
  [[nodiscard]] std::vector<encoder::LocationIndex> describe(encoder::Profile& profile) const;

 private:
  // `pcs` ascending, each once.
  void resolve(Symbolizer& symbolizer, std::span<const safe::Pc> pcs);
  [[nodiscard]] std::uint32_t position_of(std::uintptr_t pc) const noexcept;

  ModuleSet modules_;
  std::vector<Frame> frames_;  // by pc, so the synthetic one is the first
  LeafFrames leaf_;
};

}  // namespace profagent::service
