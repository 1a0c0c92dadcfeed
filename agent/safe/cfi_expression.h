// Evaluates the DWARF expressions that occur in call-frame information. Bounded stack and steps.
#pragma once

#include <cstdint>

#include "agent/safe/cfi.h"
#include "agent/safe/cfi_memory.h"
#include "agent/safe/unwind_window.h"

namespace profagent::safe {

// A register file of which some may be unknown.
struct Registers {
  std::uintptr_t value[kRegisters] = {};
  std::uint32_t known = 0;  // bit per register

  [[nodiscard]] bool knows(unsigned number) const noexcept { return (known >> number & 1U) != 0; }
  void set(unsigned number, std::uintptr_t to) noexcept {
    value[number] = to;
    known |= 1U << number;
  }
  void lose(unsigned number) noexcept { known &= ~(1U << number); }
};

enum class Evaluation : std::uint8_t { kDone, kUnknownRegister, kFailed };

// `at` is the address of the expression's length. `first` (the CFA) is pushed before it starts, when not
// null.
Evaluation evaluate(CfiMemory& memory, std::uintptr_t at, const Registers& registers, StackWindow& stack,
                    const std::uintptr_t* first, std::uintptr_t& result) noexcept;

}  // namespace profagent::safe
