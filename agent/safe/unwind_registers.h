// The slow way up: one frame at a time with all registers, by the uncompressed rule.
#pragma once

#include "agent/safe/cfi_expression.h"
#include "agent/safe/cfi_memory.h"
#include "agent/safe/rule_cache.h"
#include "agent/safe/types.h"
#include "agent/safe/unwind.h"
#include "agent/safe/unwind_window.h"

namespace profagent::safe {

enum class StepResult : std::uint8_t {
  kNext,             // the registers are the caller's
  kEnd,              // there is no caller: the outermost frame
  kUnknownRegister,  // the rule asks for a register that is not known here
  kLost,             // no rule, or one that makes no sense
};

struct Step {
  StepResult result = StepResult::kLost;
  // The frame stepped from is a signal trampoline: the caller was interrupted, its pc is exact.
  bool signal_frame = false;
};

// Steps from the frame with `pc` (caller_pc() for a return address) to its caller by the full rule.
Step step_by_rule(Pc pc, CfiMemory::Trust trust, StackWindow& stack, Registers& registers) noexcept;

// Steps out of a signal trampoline without call-frame information; sp points to the kernel's ucontext.
Step step_by_sigreturn(StackWindow& stack, Registers& registers) noexcept;

// Steps by the frame pointer, strictly checked. False: the chain does not go on; `clean` when it ends in a
// null.
bool step_by_frame_pointer(StackWindow& stack, std::uintptr_t& sp, std::uintptr_t& bp,
                           std::uintptr_t& return_address, bool& clean) noexcept;

// All registers that can be known at `start`: those of the signal context, or what the agent's own frames
// below saved.
void registers_at(const StartFrame& start, StackWindow& stack, Registers& registers) noexcept;

}  // namespace profagent::safe
