#include "agent/safe/outside_walk.h"

#include "agent/safe/rule_cache.h"
#include "agent/safe/unwind_fast.h"
#include "agent/safe/unwind_registers.h"
#include "agent/safe/unwind_window.h"

namespace profagent::safe {

namespace {

constexpr std::uintptr_t kWord = sizeof(std::uintptr_t);
// Between the caller of a hook and the system call lie the hook and a few functions of libc.
constexpr std::uintptr_t kFarthestSite = std::uintptr_t{64} << 10;
// A frame that is larger is none.
constexpr std::uintptr_t kLargestFrame = std::uintptr_t{64} << 20;
// Frames that are left out must not make a walk endless.
constexpr unsigned kMostSteps = kMaxStackDepth + 128;

class OutsideWalk {
 public:
  // `all_registers`: by the full rules, which tell of all registers and take longer.
  OutsideWalk(const OutsideStart& start, std::span<Pc> pcs, StackCopy& copy, bool all_registers) noexcept
      : pcs_(pcs), site_(start.site), window_(copy), all_registers_(all_registers) {
    at_.set(kRegisterPc, start.pc);
    at_.set(kRegisterSp, start.sp);
    pc_ = start.pc;
    if (start.pc == 0) {
      go_to_site();
    } else if (site_.sp <= start.sp || site_.sp - start.sp > kFarthestSite) {
      site_ = {};
    }
  }

  // False: a rule asks for a register that the short rules do not tell.
  bool run(OutsideStack& stack) noexcept {
    stack_.incomplete = true;
    for (unsigned steps = 0; is_code_address(pc_) && steps < kMostSteps; ++steps) {
      if (is_at_site()) meet_site();
      // Out of the hook the site leads, if it is the thread's present one.
      if (is_skipped(pc_) && has_site_ahead() && go_to_site()) continue;
      if (!is_skipped(pc_) && !put()) break;
      const StepResult result = step();
      if (result == StepResult::kNext || (has_site_ahead() && go_to_site())) continue;
      if (result == StepResult::kUnknownRegister && !all_registers_) return false;
      stack_.incomplete = result != StepResult::kEnd;
      break;
    }
    stack = stack_;
    return true;
  }

 private:
  bool put() noexcept {
    stack_.truncated = stack_.depth == pcs_.size();
    if (stack_.truncated) {
      stack_.incomplete = false;
      return false;
    }
    pcs_[stack_.depth++] = pc_;
    return true;
  }

  [[nodiscard]] std::uintptr_t sp() const noexcept { return at_.value[kRegisterSp]; }
  [[nodiscard]] bool has_site_ahead() const noexcept { return site_.pc != 0 && site_.sp > sp(); }
  [[nodiscard]] bool is_at_site() const noexcept {
    return site_.pc != 0 && sp() == site_.sp && at_.value[kRegisterPc] == site_.pc;
  }

  void meet_site() noexcept {
    // Behind a signal handler it is the wait that was interrupted, which is not where the thread stands.
    if (!in_handler_) stack_.site = stack_.depth;
    at_.set(kRegisterBp, site_.bp);
    site_ = {};
  }

  // Where the call of the hook has put its return address it still stands, as long as it has not returned.
  bool go_to_site() noexcept {
    std::uintptr_t word = 0;
    if (site_.pc == 0 || !window_.read_word(site_.sp - kWord, word) || word != site_.pc) return false;
    at_ = Registers{};
    at_.set(kRegisterPc, site_.pc);
    at_.set(kRegisterSp, site_.sp);
    pc_ = caller_pc(ReturnAddress{site_.pc});
    meet_site();
    return true;
  }

  // Not inlined: the frames of all kinds of steps together would not be small.
  [[gnu::noinline]] StepResult step() noexcept {
    const PackedRule rule = rule_of_pc();
    if (!all_registers_ && rule.is_plain()) return step_plain(rule);
    if (rule.kind() == RuleKind::kEnd) return StepResult::kEnd;
    if (rule.kind() == RuleKind::kNoCfi) return step_by_bp();
    const Step step = rule.kind() == RuleKind::kSigreturn
                          ? step_by_sigreturn(window_, at_)
                          : step_by_rule(pc_, CfiMemory::Trust::kProbe, window_, at_);
    if (step.result != StepResult::kNext) return step.result;
    in_handler_ = in_handler_ || step.signal_frame;
    // The trampoline was never called: its address is no return address, and its caller's is exact.
    if (step.signal_frame && stack_.depth > 1) pcs_[stack_.depth - 1] += 1;
    return arrive(step.signal_frame);
  }

  [[nodiscard]] PackedRule rule_of_pc() const noexcept {
    const RuleTable* table = rule_table();
    const PackedRule rule = table == nullptr ? PackedRule() : table->find(pc_);
    return rule.kind() == RuleKind::kNone ? look_up_rule(pc_, CfiMemory::Trust::kProbe) : rule;
  }

  StepResult step_plain(PackedRule rule) noexcept {
    std::uintptr_t from = sp();
    if (rule.kind() == RuleKind::kFromBp) {
      if (!at_.knows(kRegisterBp)) return StepResult::kLost;
      from = at_.value[kRegisterBp];
      if (from < sp() || from - sp() > kLargestFrame) return StepResult::kLost;
    }
    const std::uintptr_t cfa = from + rule.cfa_offset();
    std::uintptr_t return_address = 0;
    if (!window_.read_word(cfa - kWord, return_address)) return StepResult::kLost;
    Registers next;
    std::uintptr_t bp = at_.value[kRegisterBp];
    const bool saved = rule.bp_distance() != 0;
    if (saved && !window_.read_word(cfa - rule.bp_distance(), bp)) return StepResult::kLost;
    if (saved || at_.knows(kRegisterBp)) next.set(kRegisterBp, bp);
    next.set(kRegisterSp, cfa);
    next.set(kRegisterPc, return_address);
    at_ = next;
    return arrive(false);
  }

  StepResult step_by_bp() noexcept {
    if (!at_.knows(kRegisterBp)) return StepResult::kLost;
    std::uintptr_t sp = this->sp();
    std::uintptr_t bp = at_.value[kRegisterBp];
    std::uintptr_t return_address = 0;
    bool clean = false;
    const bool found = step_by_frame_pointer(window_, sp, bp, return_address, clean);
    if (!found) return clean ? StepResult::kEnd : StepResult::kLost;
    at_ = Registers{};
    at_.set(kRegisterPc, return_address);
    at_.set(kRegisterSp, sp);
    at_.set(kRegisterBp, bp);
    return arrive(false);
  }

  StepResult arrive(bool exact) noexcept {
    const std::uintptr_t next = at_.value[kRegisterPc];
    if (next == 0) return StepResult::kEnd;
    pc_ = exact ? next : caller_pc(ReturnAddress{next});
    return StepResult::kNext;
  }

  std::span<Pc> pcs_;
  StartFrame site_;  // pc 0: met, or not to be believed
  StackWindow window_;
  bool all_registers_;
  bool in_handler_ = false;
  Registers at_;
  Pc pc_ = 0;
  OutsideStack stack_;
};

// Not inlined, so that there is room for one walk on the stack, not for two.
[[gnu::noinline]] bool walk(const OutsideStart& start, std::span<Pc> pcs, StackCopy& copy, bool all_registers,
                            OutsideStack& stack) noexcept {
  return OutsideWalk(start, pcs, copy, all_registers).run(stack);
}

}  // namespace

OutsideStack walk_outside(const OutsideStart& start, std::span<Pc> pcs) noexcept {
  if (pcs.size() > kMaxStackDepth) pcs = pcs.first(kMaxStackDepth);
  StackCopy copy;
  OutsideStack stack;
  if (!walk(start, pcs, copy, false, stack)) walk(start, pcs, copy, true, stack);
  return stack;
}

}  // namespace profagent::safe
