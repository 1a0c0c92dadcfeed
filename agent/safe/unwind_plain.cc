#ifndef __clang__
// GCC would carry a frame's pc and sp as one vector from frame to frame, which doubles the time of a walk.
// Before all includes, so that what they define can still be inlined.
#pragma GCC optimize("no-tree-slp-vectorize")
#endif

#include "agent/safe/unwind_fast.h"

namespace profagent::safe {

namespace {

constexpr std::uintptr_t kWord = sizeof(std::uintptr_t);

std::uintptr_t load(std::uintptr_t at) noexcept {
  return *reinterpret_cast<const std::uintptr_t*>(at);
}

}  // namespace

// A function of its own, and all state in locals: each frame depends on the last one through two loads (the
// return address, its rule) and an addition, and a register spilled in that chain would cost more than all
// other work.
[[gnu::noinline]] void walk_plain_frames(FastWalk::State& state) noexcept {
  Pc pc = state.pc;
  std::uintptr_t sp = state.sp;
  std::uintptr_t bp = state.bp;
  Pc* next = state.next;
  std::uint64_t sum = state.sum;
  std::uint64_t power = state.power;
  WalkFrame* record = state.record;
  const RuleTable* const table = state.table;
  const std::uintptr_t end = state.end;
  while (sp < state.next_sp && next != state.full) {
    const PackedRule rule = table->find(pc);
    std::uintptr_t cfa = sp + rule.cfa_offset();
    if (rule.kind() != RuleKind::kFromSp) {
      cfa = bp + rule.cfa_offset();
      if (rule.kind() != RuleKind::kFromBp || bp < sp || cfa < bp) break;
    }
    if (cfa > end) break;
    const Pc outer_pc = caller_pc(ReturnAddress{load(cfa - kWord)});
    if (!is_code_address(outer_pc)) break;
    *next++ = pc;
    sum += pc * power;
    power *= kHashFactor;
    if (record != nullptr) {
      record->pc = pc;
      record->sp = sp;
      record->bp = bp;
      record->rule = rule;
      ++record;
    }
    if (rule.bp_distance() != 0) bp = load(cfa - rule.bp_distance());
    sp = cfa;
    pc = outer_pc;
  }
  state.pc = pc;
  state.sp = sp;
  state.bp = bp;
  state.next = next;
  state.sum = sum;
  state.power = power;
  state.record = record;
}

}  // namespace profagent::safe
