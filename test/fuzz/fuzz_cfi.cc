// Any bytes as call-frame information: found through an .eh_frame_hdr, as a bare program, as an expression.
// The first two bytes say where the pc stands.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "agent/safe/cfi.h"
#include "agent/safe/cfi_expression.h"
#include "agent/safe/rule_cache.h"

using namespace profagent::safe;

namespace {

volatile std::uint64_t sink;

void evaluate_row(CfiMemory& memory, const CfiRow& row, const Registers& registers) {
  StackWindow stack;
  const std::uintptr_t cfa = registers.value[kRegisterSp];
  std::uintptr_t value = 0;
  const auto run = [&](std::int32_t distance) {
    const std::uintptr_t at = memory.begin() + static_cast<std::uint32_t>(distance);
    if (evaluate(memory, at, registers, stack, &cfa, value) == Evaluation::kDone) sink = sink + value;
  };
  if (row.cfa_computed) run(row.cfa_value);
  for (unsigned i = 0; i < kRegisters; ++i) {
    if (row.rule[i] == CfiRule::kIsComputed || row.rule[i] == CfiRule::kSavedAtComputed) run(row.value[i]);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 4) return 0;
  std::uint16_t offset = 0;
  std::memcpy(&offset, data, sizeof offset);
  const std::size_t bytes = size - 2;
  // A block of exactly this size: the sanitizer sees the first byte that is read beyond it.
  auto* block = static_cast<std::uint8_t*>(std::malloc(bytes));
  std::memcpy(block, data + 2, bytes);
  const auto begin = reinterpret_cast<std::uintptr_t>(block);
  const Pc pc = begin + offset;
  Registers registers;
  for (unsigned i = 0; i < kRegisters; i += 2) registers.set(i, begin + 8 * i);
  for (const auto trust : {CfiMemory::Trust::kDirect, CfiMemory::Trust::kProbe}) {
    CfiMemory memory(begin, begin + bytes, trust);
    CfiFunction function;
    CfiRow row;
    if (find_function(memory, begin, pc, function) && find_row(memory, function, pc, row)) {
      sink = sink + pack(row, function.signal_frame).bits();
      evaluate_row(memory, row, registers);
    }
    CfiFunction bare;
    bare.begin = begin;
    bare.end = begin + 0x10000;
    bare.common_program = bare.common_program_end = begin;
    bare.program = begin;
    bare.program_end = begin + bytes;
    bare.pointer_encoding = 0x1b;
    bare.data_factor = -8;
    if (find_row(memory, bare, pc, row)) {
      sink = sink + pack(row, false).bits();
      evaluate_row(memory, row, registers);
    }
    StackWindow stack;
    std::uintptr_t value = 0;
    if (evaluate(memory, begin, registers, stack, nullptr, value) == Evaluation::kDone) sink = sink + value;
  }
  std::free(block);
  return 0;
}
