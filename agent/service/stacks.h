// Interned stacks, made readable: all addresses of a request are resolved at once, then each stack is a list
// of frames. On our thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/safe/types.h"
#include "agent/service/modules.h"
#include "agent/service/stack_pool.h"
#include "agent/service/symbol_sources.h"
#include "agent/service/symbol_wish.h"
#include "encoder/profile.h"
#include "encoder/string_table.h"

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
  ReadableStacks(SymbolSources& sources, const SymbolWish& wish, std::span<const safe::StackId> stacks,
                 LeafFrames leaf);
  // The same for stacks that are not interned.
  ReadableStacks(SymbolSources& sources, const SymbolWish& wish, const StackPool& stacks);

  struct Frame {
    std::uintptr_t pc = 0;     // 0: a synthetic frame
    ResolvedPc resolved;       // of the function that has the frame, in the default style
    LineChain chain;           // empty: no line information
    std::uint32_t hidden = 0;  // so many of the chain's inlined functions are not shown
    std::uint32_t names = 0;   // where its names in the wished style begin
  };
  [[nodiscard]] std::span<const Frame> frames() const noexcept { return frames_; }

  // One of the functions that a frame stands for.
  struct Function {
    std::string_view name;
    std::string_view system_name;
    std::string_view file;  // empty: not known
    std::uint32_t line = 0;
  };
  // The innermost inlined function first, the one that has the frame last. As long as this object lives.
  void functions(const Frame& frame, std::vector<Function>& out) const;

  // Positions in frames(), leaf first; empty for kNoStack. `stack` was one of the constructor's.
  void positions(safe::StackId stack, std::vector<std::uint32_t>& out) const;
  void positions(std::span<const safe::Pc> pcs, std::vector<std::uint32_t>& out) const;

  [[nodiscard]] const ModuleSet& modules() const noexcept { return modules_; }

  // Adds the mappings and all frames to an empty profile, and why names or lines are missing as comments. The
  // result holds a location for each position. The profile may outlive this object.
  [[nodiscard]] std::vector<encoder::LocationIndex> describe(encoder::Profile& profile) const;

 private:
  // `pcs` ascending, each once.
  void resolve(SymbolSources& sources, std::span<const safe::Pc> pcs);
  void find_lines(SourceLines& source_lines, std::span<const safe::Pc> pcs);
  void hide_allocators(Frame& frame, std::unordered_map<std::string_view, bool>& known) const;
  void add_names();
  [[nodiscard]] bool is_own_name(const Frame& frame, std::size_t index) const noexcept;
  [[nodiscard]] std::uint32_t position_of(std::uintptr_t pc) const noexcept;
  [[nodiscard]] std::vector<encoder::MappingIndex> describe_mappings(encoder::Profile& profile) const;
  void lend_texts(const Frame& frame, encoder::Profile& profile) const;
  [[nodiscard]] std::size_t index_of(const Module& module) const noexcept {
    return static_cast<std::size_t>(&module - modules_.modules().data());
  }

  ModuleSet modules_;
  std::vector<Frame> frames_;               // by pc, so the synthetic one is the first
  std::shared_ptr<const LineStore> lines_;  // the chains'
  encoder::StringTable readable_;
  // Of each frame: its own, unless the symbolizer has it in that style; then one for each of its chain.
  std::vector<encoder::StringId> names_;
  std::string names_problem_;
  std::string lines_problem_;
  LeafFrames leaf_;
  SymbolWish wish_;
};

}  // namespace profagent::service
