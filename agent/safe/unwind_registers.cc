#include "agent/safe/unwind_registers.h"

#include <cstddef>

namespace profagent::safe {

namespace {

constexpr std::uintptr_t kWord = sizeof(std::uintptr_t);
// Frames between capture_stack() and the caller of the hook.
constexpr unsigned kMaxOwnFrames = 32;

// Where the registers are in gregs, by DWARF number.
constexpr int kGregOf[kRegisters] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI,
                                     REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                     REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};

class RuleStep {
 public:
  RuleStep(CfiLookup& lookup, StackWindow& stack, const Registers& from) noexcept
      : lookup_(lookup), stack_(stack), from_(from) {}

  StepResult run(Registers& to) noexcept {
    const CfiRow& row = lookup_.row();
    if (row.rule[kRegisterPc] == CfiRule::kUndefined) return StepResult::kEnd;
    if (const StepResult found = find_cfa(); found != StepResult::kNext) return found;
    // Only a signal handler's frame may lie above its caller's: it can be on another stack.
    if (!lookup_.signal_frame() && (cfa_ <= from_.value[kRegisterSp] || !stack_.reach(cfa_ - kWord, cfa_))) {
      return StepResult::kLost;
    }
    to = Registers{};
    for (unsigned number = 0; number < kRegisters; ++number) {
      std::uintptr_t value = 0;
      const StepResult result = recover(number, value);
      if (result == StepResult::kNext) to.set(number, value);
      // A walk cannot go on without these; a bp that is lost for good, or was never known, is missed only if
      // a rule asks for it.
      const bool needed =
          number == kRegisterPc || number == kRegisterSp ||
          (number == kRegisterBp && result == StepResult::kUnknownRegister && from_.knows(kRegisterBp));
      if (needed && result != StepResult::kNext) return result;
    }
    return StepResult::kNext;
  }

 private:
  static StepResult result_of(Evaluation evaluation) noexcept {
    switch (evaluation) {
      case Evaluation::kDone:
        return StepResult::kNext;
      case Evaluation::kUnknownRegister:
        return StepResult::kUnknownRegister;
      default:
        return StepResult::kLost;
    }
  }

  std::uintptr_t expression_at(std::int32_t distance) noexcept {
    return lookup_.memory().begin() + static_cast<std::uint32_t>(distance);
  }

  StepResult find_cfa() noexcept {
    const CfiRow& row = lookup_.row();
    if (row.cfa_computed) {
      return result_of(
          evaluate(lookup_.memory(), expression_at(row.cfa_value), from_, stack_, nullptr, cfa_));
    }
    if (!from_.knows(row.cfa_register)) return StepResult::kUnknownRegister;
    cfa_ = from_.value[row.cfa_register] + static_cast<std::uintptr_t>(std::intptr_t{row.cfa_value});
    return StepResult::kNext;
  }

  StepResult recover(unsigned number, std::uintptr_t& value) noexcept {
    const std::int32_t operand = lookup_.row().value[number];
    const std::uintptr_t place = cfa_ + static_cast<std::uintptr_t>(std::intptr_t{operand});
    switch (lookup_.row().rule[number]) {
      case CfiRule::kUnspecified:
        if (number == kRegisterSp) {
          value = cfa_;
          return StepResult::kNext;
        }
        if (number == kRegisterPc) return StepResult::kLost;
        [[fallthrough]];
      case CfiRule::kUnchanged:
        value = from_.value[number];
        return from_.knows(number) ? StepResult::kNext : StepResult::kUnknownRegister;
      case CfiRule::kUndefined:
        // Compilers say so of rbp in functions that merely do not keep it; harmless when nobody asks.
        return StepResult::kLost;
      case CfiRule::kSavedAt:
        return stack_.read_word(place, value) ? StepResult::kNext : StepResult::kLost;
      case CfiRule::kIs:
        value = place;
        return StepResult::kNext;
      case CfiRule::kInRegister:
        if (operand < 0 || operand >= static_cast<std::int32_t>(kRegisters)) return StepResult::kLost;
        value = from_.value[operand];
        return from_.knows(static_cast<unsigned>(operand)) ? StepResult::kNext : StepResult::kUnknownRegister;
      case CfiRule::kSavedAtComputed:
      case CfiRule::kIsComputed:
        return recover_computed(number, value);
    }
    return StepResult::kLost;
  }

  StepResult recover_computed(unsigned number, std::uintptr_t& value) noexcept {
    const CfiRow& row = lookup_.row();
    const StepResult result =
        result_of(evaluate(lookup_.memory(), expression_at(row.value[number]), from_, stack_, &cfa_, value));
    if (result != StepResult::kNext || row.rule[number] == CfiRule::kIsComputed) return result;
    const std::uintptr_t place = value;
    return stack_.read_word(place, value) ? StepResult::kNext : StepResult::kLost;
  }

  CfiLookup& lookup_;
  StackWindow& stack_;
  const Registers& from_;
  std::uintptr_t cfa_ = 0;
};

}  // namespace

[[gnu::noinline]] Step step_by_rule(Pc pc, CfiMemory::Trust trust, StackWindow& stack,
                                    Registers& registers) noexcept {
  CfiLookup lookup(pc, trust);
  Step step;
  if (!lookup.found()) return step;
  step.signal_frame = lookup.signal_frame();
  Registers next;
  step.result = RuleStep(lookup, stack, registers).run(next);
  if (step.result != StepResult::kNext) return step;
  if (!stack.enter(next.value[kRegisterSp])) step.result = StepResult::kLost;
  registers = next;
  return step;
}

Step step_by_sigreturn(StackWindow& stack, Registers& registers) noexcept {
  Step step;
  step.signal_frame = true;
  const std::uintptr_t gregs =
      registers.value[kRegisterSp] + offsetof(ucontext_t, uc_mcontext) + offsetof(mcontext_t, gregs);
  Registers next;
  for (unsigned number = 0; number < kRegisters; ++number) {
    std::uintptr_t value = 0;
    if (!stack.read_word(gregs + static_cast<std::uintptr_t>(kGregOf[number]) * kWord, value)) return step;
    next.set(number, value);
  }
  registers = next;
  if (stack.enter(next.value[kRegisterSp])) step.result = StepResult::kNext;
  return step;
}

bool step_by_frame_pointer(StackWindow& stack, std::uintptr_t& sp, std::uintptr_t& bp,
                           std::uintptr_t& return_address, bool& clean) noexcept {
  clean = bp == 0;
  // From here on the memory is a guess, not a live frame.
  stack.distrust();
  if (bp % kWord != 0 || bp < sp || !stack.enter(sp) || bp + 2 * kWord < bp) return false;
  if (!stack.reach(bp, bp + 2 * kWord)) return false;
  sp = bp + 2 * kWord;
  if (!stack.read_word(sp - kWord, return_address) || !stack.read_word(sp - 2 * kWord, bp)) return false;
  clean = return_address == 0;
  return return_address != 0;
}

[[gnu::noinline]] void registers_at(const StartFrame& start, StackWindow& stack,
                                    Registers& registers) noexcept {
  if (start.registers != nullptr) {
    for (unsigned number = 0; number < kRegisters; ++number) {
      registers.set(number, static_cast<std::uintptr_t>(start.registers->gregs[kGregOf[number]]));
    }
    return;
  }
  std::uintptr_t here[8] = {};
  asm volatile(
      "lea 0(%%rip), %%rax\n\t"
      "mov %%rax, 0(%0)\n\t"
      "mov %%rsp, 8(%0)\n\t"
      "mov %%rbp, 16(%0)\n\t"
      "mov %%rbx, 24(%0)\n\t"
      "mov %%r12, 32(%0)\n\t"
      "mov %%r13, 40(%0)\n\t"
      "mov %%r14, 48(%0)\n\t"
      "mov %%r15, 56(%0)\n\t"
      :
      : "r"(here)
      : "rax", "memory");
  Registers own;
  constexpr unsigned kNumbers[] = {kRegisterPc, kRegisterSp, kRegisterBp, kRegisterBx, 12, 13, 14, 15};
  for (unsigned i = 0; i < 8; ++i) own.set(kNumbers[i], here[i]);
  Pc pc = here[0];
  for (unsigned i = 0; i < kMaxOwnFrames && stack.enter(own.value[kRegisterSp]); ++i) {
    if (step_by_rule(pc, CfiMemory::Trust::kDirect, stack, own).result != StepResult::kNext) break;
    if (own.value[kRegisterSp] == start.sp && own.value[kRegisterPc] == start.pc) {
      registers = own;
      return;
    }
    pc = caller_pc(ReturnAddress{own.value[kRegisterPc]});
  }
  registers.set(kRegisterPc, start.pc);
  registers.set(kRegisterSp, start.sp);
  registers.set(kRegisterBp, start.bp);
}

}  // namespace profagent::safe
