// The walk that follows pc, sp and bp only, which is all that nearly every rule asks for.
#pragma once

#include <cstdint>
#include <span>

#include "agent/safe/rule_cache.h"
#include "agent/safe/types.h"
#include "agent/safe/unwind.h"
#include "agent/safe/unwind_registers.h"
#include "agent/safe/unwind_window.h"
#include "agent/safe/walk_cache.h"

namespace profagent::safe {

enum class WalkEnd : std::uint8_t {
  kOutermost,
  kTruncated,
  kLost,
  kNeedsRegisters,  // a rule asks for more: walk_with_registers()
};

// At the leaf, frames of the agent's own text are passed over; at most so many.
inline constexpr unsigned kMaxSkippedFrames = 32;
bool is_skipped(Pc pc) noexcept;
bool skips_frames() noexcept;

// What code can be at, in user space.
inline bool is_code_address(Pc pc) noexcept {
  return pc - 4096 < (std::uintptr_t{1} << 47U) - 4096;
}

// Spreads the hash polynomial's high bits into the low ones, which tables index by.
std::uint64_t finish_hash(std::uint64_t hash) noexcept;

class FastWalk {
 public:
  // `cache` may be null, and must be locked by the caller.
  FastWalk(std::span<Pc> pcs, WalkCache* cache) noexcept;

  WalkEnd run(Pc pc, std::uintptr_t sp, std::uintptr_t bp) noexcept;
  // After run(), unless that needs registers: fills in the result and remembers the walk.
  void finish(WalkEnd end, Stack& stack) noexcept;

  // What changes with every frame.
  struct State {
    Pc pc;  // the frame that was reached and is not recorded yet
    std::uintptr_t sp;
    std::uintptr_t bp;
    Pc* next;                // where its pc goes
    std::uint64_t sum;       // of the recorded frames, leaf first: sum of pc[i] * K^i
    std::uint64_t power;     // the next power of K
    WalkFrame* record;       // where the frame is remembered; null: this walk is not remembered (any more)
    std::uintptr_t end;      // of the window
    std::uintptr_t next_sp;  // a frame here or above may be a remembered one: meet()
    Pc* full;                // the end of the room for pcs
    const RuleTable* table;
  };

 private:
  static constexpr std::uintptr_t kNever = ~std::uintptr_t{0};

  CfiMemory::Trust trust() const noexcept {
    return window_.trusting() ? CfiMemory::Trust::kDirect : CfiMemory::Trust::kProbe;
  }
  std::uint32_t depth() const noexcept { return static_cast<std::uint32_t>(at_.next - pcs_); }
  void put(PackedRule rule) noexcept;

  // From the recorded frame to its caller. False: it has none, see `end`.
  bool step(PackedRule rule, WalkEnd& end) noexcept;
  bool step_plain(PackedRule rule, WalkEnd& end) noexcept;
  bool step_in_full(bool by_sigreturn, WalkEnd& end) noexcept;
  bool step_by_bp(WalkEnd& end) noexcept;

  // True: this frame and frames further out were taken over, and the last of them is the recorded frame.
  bool meet() noexcept;
  bool take_over(std::uint32_t index) noexcept;
  std::uintptr_t bp_after(std::uint32_t from, std::uint32_t to) const noexcept;
  void copy_taken(std::uint32_t from, std::uint32_t to) noexcept;
  void stop_remembering() noexcept;
  void await(std::uint32_t candidate) noexcept;

  State at_;
  Pc* pcs_;
  StackWindow window_;
  WalkCache* cache_;
  WalkFrame* scratch_ = nullptr;
  // The next remembered frame to meet; once joined, the one that must come next.
  std::uint32_t candidate_ = 0;
  std::uint32_t joined_at_ = 0;
  bool joined_ = false;
  bool hash_again_ = false;
};

// The plain frames of a walk, as fast as it goes: stops in front of the first frame for which anything else
// is to be done.
void walk_plain_frames(FastWalk::State& state) noexcept;

}  // namespace profagent::safe
