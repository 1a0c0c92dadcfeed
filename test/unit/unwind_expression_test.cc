// DWARF expressions as they occur in call-frame information.
#include <cstdint>
#include <vector>

#include <catch2/catch.hpp>

#include "agent/safe/cfi_expression.h"

using namespace profagent::safe;

namespace {

using Code = std::vector<std::uint8_t>;

struct Answer {
  Evaluation outcome;
  std::uintptr_t value;
};

Answer run(const Code& code, const std::uintptr_t* first = nullptr) {
  Code bytes;
  bytes.push_back(static_cast<std::uint8_t>(code.size()));
  bytes.insert(bytes.end(), code.begin(), code.end());
  const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data());
  CfiMemory memory(begin, begin + bytes.size(), CfiMemory::Trust::kDirect);
  Registers registers;
  registers.set(0, 1000);
  registers.set(kRegisterSp, 5000);
  registers.set(kRegisterPc, 0x40b);
  StackWindow stack;
  Answer answer{};
  answer.outcome = evaluate(memory, begin, registers, stack, first, answer.value);
  return answer;
}

std::int64_t value_of(const Code& code) {
  const Answer answer = run(code);
  CHECK(answer.outcome == Evaluation::kDone);
  return static_cast<std::int64_t>(answer.value);
}

}  // namespace

TEST_CASE("expressions: the PLT's CFA depends on where in its entry the pc stands") {
  // breg7 8; breg16 0; lit15; and; lit11; ge; lit3; shl; plus
  const Code plt = {0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22};
  CHECK(value_of(plt) == 5000 + 8 + 8);
}

TEST_CASE("expressions: constants") {
  CHECK(value_of({0x30}) == 0);
  CHECK(value_of({0x4f}) == 31);
  CHECK(value_of({0x08, 0xff}) == 255);
  CHECK(value_of({0x09, 0xff}) == -1);
  CHECK(value_of({0x0a, 0xff, 0xff}) == 65535);
  CHECK(value_of({0x0b, 0xff, 0xff}) == -1);
  CHECK(value_of({0x0c, 1, 0, 0, 0x80}) == 0x80000001);
  CHECK(value_of({0x0d, 0xfe, 0xff, 0xff, 0xff}) == -2);
  CHECK(value_of({0x0e, 1, 2, 0, 0, 0, 0, 0, 0}) == 513);
  CHECK(value_of({0x0f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) == -1);
  CHECK(value_of({0x03, 1, 2, 0, 0, 0, 0, 0, 0}) == 513);
  CHECK(value_of({0x10, 0x80, 0x01}) == 128);
  CHECK(value_of({0x11, 0x7f}) == -1);
}

TEST_CASE("expressions: the stack of values") {
  CHECK(value_of({0x35, 0x36, 0x12, 0x1c, 0x22}) == 5);  // dup, minus, plus
  CHECK(value_of({0x35, 0x36, 0x13}) == 5);              // drop
  CHECK(value_of({0x35, 0x36, 0x14}) == 5);              // over
  CHECK(value_of({0x35, 0x36, 0x37, 0x15, 2}) == 5);     // pick
  CHECK(value_of({0x35, 0x33, 0x16, 0x1c}) == -2);       // swap, minus
  CHECK(value_of({0x31, 0x32, 0x33, 0x17, 0x13}) == 1);  // rot puts the third on second place
  CHECK(value_of({0x31, 0x32, 0x33, 0x17, 0x13, 0x13}) == 3);
  CHECK(value_of({0x31, 0x32, 0x33, 0x17}) == 2);
}

TEST_CASE("expressions: arithmetic and comparisons") {
  CHECK(value_of({0x09, 0xfb, 0x19}) == 5);          // abs
  CHECK(value_of({0x09, 0xfa, 0x32, 0x1b}) == -3);   // signed div
  CHECK(value_of({0x3b, 0x34, 0x1d}) == 3);          // mod
  CHECK(value_of({0x3b, 0x34, 0x1e}) == 44);         // mul
  CHECK(value_of({0x35, 0x1f}) == -5);               // neg
  CHECK(value_of({0x35, 0x20}) == -6);               // not
  CHECK(value_of({0x35, 0x3a, 0x21}) == 15);         // or
  CHECK(value_of({0x35, 0x23, 0x80, 0x01}) == 133);  // plus_uconst
  CHECK(value_of({0x38, 0x32, 0x25}) == 2);          // shr
  CHECK(value_of({0x09, 0xf8, 0x31, 0x26}) == -4);   // shra
  CHECK(value_of({0x35, 0x33, 0x27}) == 6);          // xor
  CHECK(value_of({0x31, 0x08, 64, 0x24}) == 0);      // shl by the width
  CHECK(value_of({0x33, 0x33, 0x29}) == 1);
  CHECK(value_of({0x33, 0x34, 0x29}) == 0);
  CHECK(value_of({0x09, 0xff, 0x30, 0x2d}) == 1);  // -1 < 0: signed
  CHECK(value_of({0x34, 0x33, 0x2b}) == 1);
  CHECK(value_of({0x34, 0x33, 0x2c}) == 0);
  CHECK(value_of({0x34, 0x33, 0x2e}) == 1);
}

TEST_CASE("expressions: branches stay inside, and end") {
  CHECK(value_of({0x35, 0x2f, 1, 0, 0x36}) == 5);                       // skip
  CHECK(value_of({0x35, 0x31, 0x28, 1, 0, 0x36}) == 5);                 // bra taken
  CHECK(value_of({0x35, 0x30, 0x28, 1, 0, 0x36}) == 6);                 // bra not taken
  CHECK(run({0x35, 0x2f, 0xfc, 0xff}).outcome == Evaluation::kFailed);  // for ever
  CHECK(run({0x35, 0x2f, 0x10, 0x00}).outcome == Evaluation::kFailed);  // out of the block
  CHECK(run({0x35, 0x2f, 0x00, 0x80}).outcome == Evaluation::kFailed);
}

TEST_CASE("expressions: registers and memory") {
  CHECK(value_of({0x70, 0x7f}) == 999);
  CHECK(value_of({0x50}) == 1000);
  CHECK(value_of({0x92, 0, 2}) == 1002);
  CHECK(value_of({0x90, 7}) == 5000);
  CHECK(run({0x73, 0}).outcome == Evaluation::kUnknownRegister);
  CHECK(run({0x92, 40, 0}).outcome == Evaluation::kFailed);
  const std::uint64_t word = 0x1122334455667788;
  const auto at = reinterpret_cast<std::uintptr_t>(&word);
  Code load = {0x0e, 0, 0, 0, 0, 0, 0, 0, 0, 0x06};
  for (unsigned i = 0; i < 8; ++i) load[1 + i] = static_cast<std::uint8_t>(at >> (8 * i));
  CHECK(value_of(load) == 0x1122334455667788);
  load.back() = 0x94;
  load.push_back(2);
  CHECK(value_of(load) == 0x7788);
  load.back() = 9;
  CHECK(run(load).outcome == Evaluation::kFailed);
  CHECK(run({0x30, 0x06}).outcome == Evaluation::kFailed);  // a load from address 0
}

TEST_CASE("expressions: the CFA comes first when a register's rule is computed") {
  const std::uintptr_t cfa = 640;
  CHECK(run({0x23, 2}, &cfa).value == 642);
}

TEST_CASE("expressions: what makes no sense is refused") {
  CHECK(run({}).outcome == Evaluation::kFailed);
  CHECK(run({0x22}).outcome == Evaluation::kFailed);
  CHECK(run({0x31, 0x30, 0x1b}).outcome == Evaluation::kFailed);
  CHECK(run({0x31, 0x30, 0x1d}).outcome == Evaluation::kFailed);
  CHECK(run({0x08}).outcome == Evaluation::kFailed);
  CHECK(run({0x96}).outcome == Evaluation::kFailed);  // nop leaves nothing
  CHECK(run({0xff}).outcome == Evaluation::kFailed);
  CHECK(run({0x31, 0x15, 1}).outcome == Evaluation::kFailed);
  CHECK(run(Code(17, 0x31)).outcome == Evaluation::kFailed);
  CHECK(run(Code(16, 0x31)).outcome == Evaluation::kDone);
  // INT64_MIN / -1 traps in hardware.
  CHECK(run({0x0e, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x09, 0xff, 0x1b}).outcome == Evaluation::kFailed);
}
