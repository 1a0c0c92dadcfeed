// From a pc to the rule that finds its caller. Nearly every rule fits 32 bits and is cached with its pc in
// one 64-bit word: an entry cannot tear, so readers and writers need neither lock nor order. Any thread,
// signal handlers included.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "agent/safe/cfi.h"
#include "agent/safe/types.h"

namespace profagent::safe {

enum class RuleKind : std::uint8_t {
  kNone = 0,   // an empty entry
  kFromSp,     // CFA = sp + offset, return address at CFA - 8
  kFromBp,     // CFA = bp + offset, return address at CFA - 8
  kEnd,        // the outermost frame
  kFull,       // anything else that call-frame information can say: interpreted each time
  kNoCfi,      // no call-frame information: only the frame pointer is left
  kSigreturn,  // a signal trampoline without call-frame information (Go's), known by its instructions
};

// kind: 3 bits, CFA offset / 8: 14 bits, distance of the saved bp below the CFA / 8 (0: unchanged): 14 bits.
class PackedRule {
 public:
  constexpr PackedRule() = default;
  constexpr explicit PackedRule(std::uint32_t bits) noexcept : bits_(bits) {}
  constexpr explicit PackedRule(RuleKind kind) noexcept : bits_(static_cast<std::uint32_t>(kind)) {}
  constexpr PackedRule(RuleKind kind, std::uint32_t cfa_words, std::uint32_t bp_words) noexcept
      : bits_(static_cast<std::uint32_t>(kind) | cfa_words << kCfaShift | bp_words << kBpShift) {}

  [[nodiscard]] constexpr std::uint32_t bits() const noexcept { return bits_; }
  [[nodiscard]] constexpr RuleKind kind() const noexcept { return static_cast<RuleKind>(bits_ & kKindMask); }
  [[nodiscard]] constexpr std::uint32_t cfa_offset() const noexcept {
    return (bits_ >> kCfaShift & kWordsMask) * 8;
  }
  [[nodiscard]] constexpr std::uint32_t bp_distance() const noexcept { return (bits_ >> kBpShift) * 8; }
  // Found from sp and bp alone, by loads from this frame alone.
  [[nodiscard]] constexpr bool is_plain() const noexcept {
    return kind() == RuleKind::kFromSp || kind() == RuleKind::kFromBp;
  }

  static constexpr std::uint32_t kMaxWords = (1U << 14U) - 1;

 private:
  static constexpr std::uint32_t kKindMask = 7;
  static constexpr unsigned kCfaShift = 3;
  static constexpr unsigned kBpShift = 17;
  static constexpr std::uint32_t kWordsMask = kMaxWords;
  std::uint32_t bits_ = 0;
};

// kFromSp, kFromBp, kEnd or kFull.
PackedRule pack(const CfiRow& row, bool signal_frame) noexcept;

// Direct-mapped: the index is the low bits of the pc and the tag all others, so an entry is for exactly one
// pc. No hash: it would scatter neighbours over cache lines, and lengthen the chain of dependent instructions
// that is a walk's time.
class RuleTable {
 public:
  static constexpr unsigned kIndexBits = 15;
  static constexpr std::size_t kEntries = std::size_t{1} << kIndexBits;

  static constexpr std::uintptr_t tag_of(Pc pc) noexcept { return pc >> kIndexBits; }
  static constexpr std::size_t index_of(Pc pc) noexcept { return pc & (kEntries - 1); }

  // The kind is kNone when there is no entry.
  [[nodiscard]] PackedRule find(Pc pc) const noexcept {
    // Relaxed: the word is all there is to see.
    const std::uint64_t entry = entries_[index_of(pc)].load(std::memory_order_relaxed);
    return entry >> 32U == tag_of(pc) ? PackedRule(static_cast<std::uint32_t>(entry)) : PackedRule();
  }
  void put(Pc pc, PackedRule rule) noexcept {
    entries_[index_of(pc)].store(tag_of(pc) << 32U | rule.bits(), std::memory_order_relaxed);
  }
  void clear() noexcept;

 private:
  std::atomic<std::uint64_t> entries_[kEntries];
};

// Mapped on first use; null when there is no memory.
RuleTable* rule_table() noexcept;

// Grows with every forget_unwind_rules().
extern std::atomic<std::uint32_t> rule_generation;

// The pc may be trusted when it belongs to a live frame: then its module stays. Otherwise its module could be
// unloaded while we read.
PackedRule look_up_rule(Pc pc, CfiMemory::Trust trust) noexcept;

// Like look_up_rule(), for the rules that do not pack. `visit` sees the row while its memory is at hand.
class CfiLookup {
 public:
  CfiLookup(Pc pc, CfiMemory::Trust trust) noexcept;
  [[nodiscard]] bool found() const noexcept { return found_; }
  [[nodiscard]] bool signal_frame() const noexcept { return signal_frame_; }
  [[nodiscard]] const CfiRow& row() const noexcept { return row_; }
  [[nodiscard]] CfiMemory& memory() noexcept { return memory_; }

 private:
  CfiMemory memory_;
  CfiRow row_;
  bool signal_frame_ = false;
  bool found_ = false;
};

}  // namespace profagent::safe
