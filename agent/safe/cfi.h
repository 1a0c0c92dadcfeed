// Finds the call-frame information of a pc and works out its row: how the caller's registers are recovered
// when execution stands there. Pure: reads only what CfiMemory allows, keeps nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "agent/safe/cfi_memory.h"
#include "agent/safe/types.h"

namespace profagent::safe {

// DWARF's numbers of the x86-64 registers.
inline constexpr unsigned kRegisterBx = 3;
inline constexpr unsigned kRegisterBp = 6;
inline constexpr unsigned kRegisterSp = 7;
inline constexpr unsigned kRegisterPc = 16;
inline constexpr unsigned kRegisters = 17;

// A function's entry, with what it needs of its common entry (CIE).
struct CfiFunction {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  std::uintptr_t program = 0;
  std::uintptr_t program_end = 0;
  std::uintptr_t common_program = 0;
  std::uintptr_t common_program_end = 0;
  std::uint64_t code_factor = 1;
  std::int64_t data_factor = 1;
  std::uint8_t pointer_encoding = 0;
  bool signal_frame = false;  // augmentation "S": the caller was interrupted, not called
};

enum class CfiRule : std::uint8_t {
  kUnspecified,      // by convention: unchanged
  kUndefined,        // lost; for the pc: there is no caller
  kUnchanged,        //
  kSavedAt,          // in memory at CFA + value
  kIs,               // CFA + value
  kInRegister,       // in register `value`
  kSavedAtComputed,  // in memory where the expression says
  kIsComputed,       // the expression's value
};

// Expressions are kept as distances from CfiMemory::begin(), so that a row stays under 100 bytes: rows live
// on stacks of signal handlers.
struct CfiRow {
  std::int32_t value[kRegisters] = {};
  CfiRule rule[kRegisters] = {};
  bool cfa_computed = false;  // by the expression at cfa_value, else register + cfa_value
  std::uint8_t cfa_register = kRegisters;
  std::int32_t cfa_value = 0;
};

// Both return false when there is none, or it makes no sense.
// `header` is the address of .eh_frame_hdr; without a search table .eh_frame is scanned, up to a bound.
bool find_function(CfiMemory& memory, std::uintptr_t header, Pc pc, CfiFunction& function) noexcept;
bool find_row(CfiMemory& memory, const CfiFunction& function, Pc pc, CfiRow& row) noexcept;

}  // namespace profagent::safe
