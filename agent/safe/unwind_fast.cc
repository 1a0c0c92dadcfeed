#include "agent/safe/unwind_fast.h"

namespace profagent::safe {

namespace {

constexpr std::uintptr_t kWord = sizeof(std::uintptr_t);

std::uintptr_t load(std::uintptr_t at) noexcept {
  return *reinterpret_cast<const std::uintptr_t*>(at);
}

}  // namespace

FastWalk::FastWalk(std::span<Pc> pcs, WalkCache* cache) noexcept
    : at_{0, 0, 0, pcs.data(), 0, 1, nullptr, 0, kNever, pcs.data() + pcs.size(), rule_table()},
      pcs_(pcs.data()),
      cache_(cache) {
  if (cache_ == nullptr) return;
  scratch_ = at_.record = cache_->scratch();
  await(cache_->leaf());
}

void FastWalk::await(std::uint32_t candidate) noexcept {
  candidate_ = candidate;
  at_.next_sp = candidate < cache_->end() ? cache_->frames()[candidate].sp : kNever;
}

WalkEnd FastWalk::run(Pc pc, std::uintptr_t sp, std::uintptr_t bp) noexcept {
  at_.pc = pc;
  at_.sp = sp;
  at_.bp = bp;
  if (!window_.enter(sp)) {
    if (at_.next != at_.full) put(PackedRule(RuleKind::kNoCfi));
    return WalkEnd::kLost;
  }
  at_.end = window_.end();
  unsigned to_skip = skips_frames() ? kMaxSkippedFrames : 0;
  for (;;) {
    const bool skip = to_skip != 0 && is_skipped(at_.pc);
    to_skip = skip ? to_skip - 1 : 0;
    if (!skip && !joined_ && at_.table != nullptr) walk_plain_frames(at_);
    const bool taken = !skip && at_.sp >= at_.next_sp && meet();
    if (!skip && !taken && at_.next == at_.full) return WalkEnd::kTruncated;
    PackedRule rule = at_.table != nullptr ? at_.table->find(at_.pc) : PackedRule();
    if (rule.kind() == RuleKind::kNone) rule = look_up_rule(at_.pc, trust());
    if (!skip && !taken) put(rule);
    WalkEnd end = WalkEnd::kLost;
    if (!step(rule, end)) return end;
    at_.end = window_.end();
  }
}

// Records the frame.
void FastWalk::put(PackedRule rule) noexcept {
  *at_.next++ = at_.pc;
  if (joined_) return;
  at_.sum += at_.pc * at_.power;
  at_.power *= kHashFactor;
  if (at_.record == nullptr) return;
  at_.record->pc = at_.pc;
  at_.record->sp = at_.sp;
  at_.record->bp = at_.bp;
  at_.record->rule = rule;
  ++at_.record;
}

bool FastWalk::step(PackedRule rule, WalkEnd& end) noexcept {
  switch (rule.kind()) {
    case RuleKind::kFromSp:
    case RuleKind::kFromBp:
      return step_plain(rule, end);
    case RuleKind::kFull:
      return step_in_full(false, end);
    case RuleKind::kSigreturn:
      return step_in_full(true, end);
    case RuleKind::kEnd:
      end = WalkEnd::kOutermost;
      return false;
    default:
      return step_by_bp(end);
  }
}

bool FastWalk::step_plain(PackedRule rule, WalkEnd& end) noexcept {
  std::uintptr_t cfa = at_.sp + rule.cfa_offset();
  if (rule.kind() == RuleKind::kFromBp) {
    cfa = at_.bp + rule.cfa_offset();
    if (at_.bp < at_.sp || cfa < at_.bp) return false;
  }
  const std::uintptr_t lowest = rule.bp_distance() > kWord ? rule.bp_distance() : kWord;
  if (!window_.reach(cfa - lowest, cfa)) return false;
  const std::uintptr_t return_address = load(cfa - kWord);
  if (rule.bp_distance() != 0) at_.bp = load(cfa - rule.bp_distance());
  at_.sp = cfa;
  at_.pc = caller_pc(ReturnAddress{return_address});
  if (return_address == 0) end = WalkEnd::kOutermost;
  return is_code_address(at_.pc);
}

bool FastWalk::step_by_bp(WalkEnd& end) noexcept {
  bool clean = false;
  std::uintptr_t return_address = 0;
  const bool found = step_by_frame_pointer(window_, at_.sp, at_.bp, return_address, clean);
  if (clean) end = WalkEnd::kOutermost;
  at_.pc = caller_pc(ReturnAddress{return_address});
  return found && is_code_address(at_.pc);
}

[[gnu::noinline]] bool FastWalk::step_in_full(bool by_sigreturn, WalkEnd& end) noexcept {
  Registers registers;
  registers.set(kRegisterPc, at_.pc);
  registers.set(kRegisterSp, at_.sp);
  registers.set(kRegisterBp, at_.bp);
  const Step step = by_sigreturn ? step_by_sigreturn(window_, registers)
                                 : step_by_rule(at_.pc, trust(), window_, registers);
  if (step.result == StepResult::kEnd) end = WalkEnd::kOutermost;
  if (step.result == StepResult::kUnknownRegister) end = WalkEnd::kNeedsRegisters;
  if (step.result != StepResult::kNext) return false;
  at_.sp = registers.value[kRegisterSp];
  if (registers.knows(kRegisterBp)) at_.bp = registers.value[kRegisterBp];
  const std::uintptr_t pc = registers.value[kRegisterPc];
  if (pc == 0) end = WalkEnd::kOutermost;
  if (step.signal_frame) {
    // The trampoline was never called: its address is no return address, and its caller's is exact.
    if (depth() > 1) at_.next[-1] += 1;
    hash_again_ = true;
  }
  at_.pc = step.signal_frame ? pc : caller_pc(ReturnAddress{pc});
  return pc != 0 && is_code_address(at_.pc);
}

void FastWalk::finish(WalkEnd end, Stack& stack) noexcept {
  window_.save();
  stack.depth = depth();
  stack.truncated = end == WalkEnd::kTruncated;
  stack.incomplete = end == WalkEnd::kLost;
  std::uint64_t outer_hash = kHashSeed;
  if (cache_ == nullptr) {
    hash_again_ = hash_again_ || joined_;
  } else if (!joined_) {
    cache_->replace(static_cast<std::uint32_t>(at_.record - scratch_));
  } else {
    // Every frame so far was the remembered one; is this all of them?
    if (candidate_ == cache_->end()) {
      outer_hash = cache_->frames()[joined_at_].hash;
    } else {
      hash_again_ = true;
    }
    cache_->put_before(joined_at_, static_cast<std::uint32_t>(at_.record - scratch_));
    stack.id_hint = cache_->id(stack.depth);
  }
  stack.hash = hash_again_ ? hash_stack({pcs_, stack.depth}) : finish_hash(at_.sum + at_.power * outer_hash);
}

}  // namespace profagent::safe
