// The call-frame program: DW_CFA_* instructions up to a pc.
#include "agent/safe/cfi.h"

namespace profagent::safe {

namespace {

// Compilers nest remember_state once; a row is 96 bytes of a signal handler's stack.
constexpr unsigned kMaxRemembered = 4;
constexpr std::int64_t kInt32Max = 0x7fffffff;

// DW_CFA_*: the upper two bits say it all, or the lower six do.
enum Operation : std::uint8_t {
  kAdvance = 0x40,
  kOffset = 0x80,
  kRestore = 0xc0,
  kNop = 0x00,
  kSetLocation = 0x01,
  kAdvance1 = 0x02,
  kAdvance2 = 0x03,
  kAdvance4 = 0x04,
  kOffsetExtended = 0x05,
  kRestoreExtended = 0x06,
  kUndefined = 0x07,
  kSameValue = 0x08,
  kRegister = 0x09,
  kRememberState = 0x0a,
  kRestoreState = 0x0b,
  kDefCfa = 0x0c,
  kDefCfaRegister = 0x0d,
  kDefCfaOffset = 0x0e,
  kDefCfaExpression = 0x0f,
  kExpression = 0x10,
  kOffsetExtendedSigned = 0x11,
  kDefCfaSigned = 0x12,
  kDefCfaOffsetSigned = 0x13,
  kValOffset = 0x14,
  kValOffsetSigned = 0x15,
  kValExpression = 0x16,
  kGnuArgsSize = 0x2e,
  kGnuNegativeOffsetExtended = 0x2f,
};

class RowMachine {
 public:
  RowMachine(CfiMemory& memory, const CfiFunction& function, Pc pc, CfiRow& row) noexcept
      : memory_(memory), function_(function), pc_(pc), location_(function.begin), row_(row) {}

  bool run() noexcept {
    row_ = CfiRow{};
    if (!run(function_.common_program, function_.common_program_end)) return false;
    initial_ = row_;
    location_ = function_.begin;
    return run(function_.program, function_.program_end) && row_makes_sense();
  }

 private:
  bool run(std::uintptr_t begin, std::uintptr_t end) noexcept {
    CfiCursor program(memory_, begin, end);
    passed_ = false;
    while (!program.done()) {
      step(program);
      if (passed_) break;
    }
    return program.ok();
  }

  bool row_makes_sense() const noexcept { return row_.cfa_computed || row_.cfa_register < kRegisters; }

  void advance(std::uint64_t delta) noexcept {
    location_ += delta * function_.code_factor;
    passed_ = location_ > pc_;
  }

  // Registers that a walk does not need (vector registers) are read and forgotten.
  void set(std::uint64_t number, CfiRule rule, std::int64_t value, CfiCursor& program) noexcept {
    if (number >= kRegisters) return;
    if (value > kInt32Max || value < -kInt32Max) return program.fail();
    row_.rule[number] = rule;
    row_.value[number] = static_cast<std::int32_t>(value);
  }

  void restore(std::uint64_t number) noexcept {
    if (number >= kRegisters) return;
    row_.rule[number] = initial_.rule[number];
    row_.value[number] = initial_.value[number];
  }

  void set_cfa(std::uint64_t number, std::int64_t offset, CfiCursor& program) noexcept {
    if (number >= kRegisters || offset > kInt32Max || offset < -kInt32Max) return program.fail();
    row_.cfa_computed = false;
    row_.cfa_register = static_cast<std::uint8_t>(number);
    row_.cfa_value = static_cast<std::int32_t>(offset);
  }

  // Leaves the cursor behind the expression. The distance points to its length.
  std::int64_t expression(CfiCursor& program) noexcept {
    const auto distance = static_cast<std::int64_t>(program.at() - memory_.begin());
    program.skip(program.uleb());
    return distance;
  }

  std::int64_t factored(std::uint64_t number) const noexcept {
    return static_cast<std::int64_t>(number * static_cast<std::uint64_t>(function_.data_factor));
  }
  std::int64_t factored_signed(CfiCursor& program) const noexcept {
    return factored(static_cast<std::uint64_t>(program.sleb()));
  }

  void step(CfiCursor& program) noexcept {
    const std::uint8_t byte = program.u8();
    const std::uint8_t operand = byte & 0x3fU;
    switch (byte & 0xc0U) {
      case kAdvance:
        return advance(operand);
      case kOffset:
        return set(operand, CfiRule::kSavedAt, factored(program.uleb()), program);
      case kRestore:
        return restore(operand);
      default:
        return step_extended(byte, program);
    }
  }

  void step_extended(std::uint8_t operation, CfiCursor& program) noexcept {
    switch (operation) {
      case kNop:
        return;
      case kSetLocation:
        location_ = program.pointer(function_.pointer_encoding, {0, function_.begin});
        passed_ = location_ > pc_;
        return;
      case kAdvance1:
        return advance(program.u8());
      case kAdvance2:
        return advance(program.take<std::uint16_t>());
      case kAdvance4:
        return advance(program.take<std::uint32_t>());
      case kRememberState:
        return remember(program);
      case kRestoreState:
        return recall(program);
      case kGnuArgsSize:
        program.uleb();
        return;
      case kDefCfa:
      case kDefCfaSigned:
      case kDefCfaRegister:
      case kDefCfaOffset:
      case kDefCfaOffsetSigned:
      case kDefCfaExpression:
        return step_cfa(operation, program);
      default:
        return step_register(operation, program.uleb(), program);
    }
  }

  void step_cfa(std::uint8_t operation, CfiCursor& program) noexcept {
    if (operation == kDefCfaExpression) {
      row_.cfa_computed = true;
      const std::int64_t distance = expression(program);
      if (distance > kInt32Max) program.fail();
      row_.cfa_value = static_cast<std::int32_t>(distance);
      return;
    }
    if (operation == kDefCfa || operation == kDefCfaSigned) {
      const std::uint64_t number = program.uleb();
      const std::int64_t offset =
          operation == kDefCfa ? static_cast<std::int64_t>(program.uleb()) : factored_signed(program);
      return set_cfa(number, offset, program);
    }
    // The others change one half of register + offset.
    if (row_.cfa_computed) return program.fail();
    if (operation == kDefCfaRegister) return set_cfa(program.uleb(), row_.cfa_value, program);
    const std::int64_t offset =
        operation == kDefCfaOffset ? static_cast<std::int64_t>(program.uleb()) : factored_signed(program);
    set_cfa(row_.cfa_register, offset, program);
  }

  void step_register(std::uint8_t operation, std::uint64_t number, CfiCursor& program) noexcept {
    switch (operation) {
      case kOffsetExtended:
        return set(number, CfiRule::kSavedAt, factored(program.uleb()), program);
      case kOffsetExtendedSigned:
        return set(number, CfiRule::kSavedAt, factored_signed(program), program);
      case kGnuNegativeOffsetExtended:
        return set(number, CfiRule::kSavedAt, factored(~program.uleb() + 1), program);
      case kValOffset:
        return set(number, CfiRule::kIs, factored(program.uleb()), program);
      case kValOffsetSigned:
        return set(number, CfiRule::kIs, factored_signed(program), program);
      case kRestoreExtended:
        return restore(number);
      case kUndefined:
        return set(number, CfiRule::kUndefined, 0, program);
      case kSameValue:
        return set(number, CfiRule::kUnchanged, 0, program);
      case kRegister:
        return set(number, CfiRule::kInRegister, static_cast<std::int64_t>(program.uleb()), program);
      case kExpression:
        return set(number, CfiRule::kSavedAtComputed, expression(program), program);
      case kValExpression:
        return set(number, CfiRule::kIsComputed, expression(program), program);
      default:
        program.fail();
    }
  }

  void remember(CfiCursor& program) noexcept {
    if (remembered_count_ == kMaxRemembered) return program.fail();
    remembered_[remembered_count_++] = row_;
  }
  void recall(CfiCursor& program) noexcept {
    if (remembered_count_ == 0) return program.fail();
    row_ = remembered_[--remembered_count_];
  }

  CfiMemory& memory_;
  const CfiFunction& function_;
  Pc pc_;
  std::uintptr_t location_;
  CfiRow& row_;
  CfiRow initial_;
  CfiRow remembered_[kMaxRemembered];
  unsigned remembered_count_ = 0;
  bool passed_ = false;
};

}  // namespace

bool find_row(CfiMemory& memory, const CfiFunction& function, Pc pc, CfiRow& row) noexcept {
  return RowMachine(memory, function, pc, row).run();
}

}  // namespace profagent::safe
