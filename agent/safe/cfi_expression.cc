#include "agent/safe/cfi_expression.h"

namespace profagent::safe {

namespace {

constexpr unsigned kMaxValues = 16;
constexpr unsigned kMaxSteps = 256;
constexpr std::uint64_t kBits = 64;

// DW_OP_*
enum Operation : std::uint8_t {
  kAddress = 0x03,
  kDereference = 0x06,
  kConst1u = 0x08,
  kConst1s = 0x09,
  kConst2u = 0x0a,
  kConst2s = 0x0b,
  kConst4u = 0x0c,
  kConst4s = 0x0d,
  kConst8u = 0x0e,
  kConst8s = 0x0f,
  kConstU = 0x10,
  kConstS = 0x11,
  kDup = 0x12,
  kDrop = 0x13,
  kOver = 0x14,
  kPick = 0x15,
  kSwap = 0x16,
  kRotate = 0x17,
  kAbs = 0x19,
  kAnd = 0x1a,
  kDiv = 0x1b,
  kMinus = 0x1c,
  kMod = 0x1d,
  kMul = 0x1e,
  kNeg = 0x1f,
  kNot = 0x20,
  kOr = 0x21,
  kPlus = 0x22,
  kPlusConst = 0x23,
  kShl = 0x24,
  kShr = 0x25,
  kShra = 0x26,
  kXor = 0x27,
  kBranch = 0x28,
  kEq = 0x29,
  kGe = 0x2a,
  kGt = 0x2b,
  kLe = 0x2c,
  kLt = 0x2d,
  kNe = 0x2e,
  kSkip = 0x2f,
  kLit0 = 0x30,
  kLit31 = 0x4f,
  kRegister0 = 0x50,
  kRegister31 = 0x6f,
  kBasedOn0 = 0x70,
  kBasedOn31 = 0x8f,
  kRegisterX = 0x90,
  kBasedOnX = 0x92,
  kDereferenceSize = 0x94,
  kNop = 0x96,
};

class ExpressionMachine {
 public:
  ExpressionMachine(CfiCursor code, const Registers& registers, StackWindow& stack) noexcept
      : code_(code), block_(code.at()), registers_(registers), stack_(stack) {}

  void push(std::uint64_t value) noexcept {
    if (count_ == kMaxValues) return fail();
    values_[count_++] = value;
  }

  Evaluation run(std::uintptr_t& result) noexcept {
    for (unsigned i = 0; !code_.done() && outcome_ == Evaluation::kDone; ++i) {
      if (i == kMaxSteps) return Evaluation::kFailed;
      step(code_.u8());
    }
    if (outcome_ != Evaluation::kDone) return outcome_;
    if (!code_.ok() || count_ == 0) return Evaluation::kFailed;
    result = values_[count_ - 1];
    return Evaluation::kDone;
  }

 private:
  void fail() noexcept { outcome_ = Evaluation::kFailed; }

  std::uint64_t pop() noexcept {
    if (count_ == 0) {
      fail();
      return 0;
    }
    return values_[--count_];
  }

  void push_signed(std::int64_t value) noexcept { push(static_cast<std::uint64_t>(value)); }

  void push_register(std::uint64_t number, std::int64_t offset) noexcept {
    if (number >= kRegisters) return fail();
    if (!registers_.knows(static_cast<unsigned>(number))) {
      outcome_ = Evaluation::kUnknownRegister;
      return;
    }
    push(registers_.value[number] + static_cast<std::uint64_t>(offset));
  }

  void pick(std::uint8_t depth) noexcept {
    if (depth >= count_) return fail();
    push(values_[count_ - 1 - depth]);
  }

  void dereference(unsigned bytes) noexcept {
    std::uintptr_t word = 0;
    if (!stack_.read_word(pop(), word)) return fail();
    if (bytes < sizeof word) word &= (std::uint64_t{1} << (bytes * 8)) - 1;
    push(word);
  }

  void step(std::uint8_t operation) noexcept {
    if (operation >= kLit0 && operation <= kLit31) return push(operation - kLit0);
    if (operation >= kRegister0 && operation <= kRegister31) return push_register(operation - kRegister0, 0);
    if (operation >= kBasedOn0 && operation <= kBasedOn31) {
      return push_register(operation - kBasedOn0, code_.sleb());
    }
    if (operation >= kAnd && operation <= kXor && operation != kNeg && operation != kNot &&
        operation != kPlusConst) {
      return compute(operation);
    }
    if (operation >= kEq && operation <= kNe) return compare(operation);
    step_other(operation);
  }

  void step_other(std::uint8_t operation) noexcept {
    switch (operation) {
      case kAddress:
      case kConst8u:
      case kConst8s:
        return push(code_.take<std::uint64_t>());
      case kConst1u:
        return push(code_.u8());
      case kConst1s:
        return push_signed(code_.take<std::int8_t>());
      case kConst2u:
        return push(code_.take<std::uint16_t>());
      case kConst2s:
        return push_signed(code_.take<std::int16_t>());
      case kConst4u:
        return push(code_.take<std::uint32_t>());
      case kConst4s:
        return push_signed(code_.take<std::int32_t>());
      case kConstU:
        return push(code_.uleb());
      case kConstS:
        return push_signed(code_.sleb());
      case kDereference:
        return dereference(sizeof(std::uintptr_t));
      case kDereferenceSize: {
        const std::uint8_t bytes = code_.u8();
        return bytes == 0 || bytes > sizeof(std::uintptr_t) ? fail() : dereference(bytes);
      }
      case kRegisterX:
        return push_register(code_.uleb(), 0);
      case kBasedOnX: {
        const std::uint64_t number = code_.uleb();
        return push_register(number, code_.sleb());
      }
      case kNop:
        return;
      default:
        return step_stack(operation);
    }
  }

  void step_stack(std::uint8_t operation) noexcept {
    switch (operation) {
      case kDup:
        return pick(0);
      case kOver:
        return pick(1);
      case kPick:
        return pick(code_.u8());
      case kDrop:
        pop();
        return;
      case kSwap: {
        const std::uint64_t top = pop();
        const std::uint64_t second = pop();
        push(top);
        return push(second);
      }
      case kRotate: {
        const std::uint64_t top = pop();
        const std::uint64_t second = pop();
        const std::uint64_t third = pop();
        push(top);
        push(third);
        return push(second);
      }
      case kAbs: {
        const std::uint64_t top = pop();
        return push(static_cast<std::int64_t>(top) < 0 ? 0 - top : top);
      }
      case kNeg:
        return push(0 - pop());
      case kNot:
        return push(~pop());
      case kPlusConst: {
        const std::uint64_t top = pop();
        return push(top + code_.uleb());
      }
      case kSkip:
        return code_.jump(code_.take<std::int16_t>(), block_);
      case kBranch: {
        const std::int64_t delta = code_.take<std::int16_t>();
        if (pop() != 0) code_.jump(delta, block_);
        return;
      }
      default:
        return fail();
    }
  }

  void compute(std::uint8_t operation) noexcept {
    const std::uint64_t right = pop();
    const std::uint64_t left = pop();
    const auto signed_left = static_cast<std::int64_t>(left);
    const auto signed_right = static_cast<std::int64_t>(right);
    switch (operation) {
      case kAnd:
        return push(left & right);
      case kOr:
        return push(left | right);
      case kXor:
        return push(left ^ right);
      case kPlus:
        return push(left + right);
      case kMinus:
        return push(left - right);
      case kMul:
        return push(left * right);
      case kMod:
        return right == 0 ? fail() : push(left % right);
      case kDiv:
        // The one quotient that does not fit traps.
        if (right == 0 || (signed_right == -1 && signed_left == INT64_MIN)) return fail();
        return push_signed(signed_left / signed_right);
      case kShl:
        return push(right < kBits ? left << right : 0);
      case kShr:
        return push(right < kBits ? left >> right : 0);
      case kShra:
        return push_signed(signed_left >> (right < kBits ? right : kBits - 1));
      default:
        return fail();
    }
  }

  void compare(std::uint8_t operation) noexcept {
    const auto right = static_cast<std::int64_t>(pop());
    const auto left = static_cast<std::int64_t>(pop());
    switch (operation) {
      case kEq:
        return push(left == right ? 1 : 0);
      case kNe:
        return push(left != right ? 1 : 0);
      case kGe:
        return push(left >= right ? 1 : 0);
      case kGt:
        return push(left > right ? 1 : 0);
      case kLe:
        return push(left <= right ? 1 : 0);
      default:
        return push(left < right ? 1 : 0);
    }
  }

  CfiCursor code_;
  std::uintptr_t block_;
  const Registers& registers_;
  StackWindow& stack_;
  unsigned count_ = 0;
  Evaluation outcome_ = Evaluation::kDone;
  std::uint64_t values_[kMaxValues];
};

}  // namespace

Evaluation evaluate(CfiMemory& memory, std::uintptr_t at, const Registers& registers, StackWindow& stack,
                    const std::uintptr_t* first, std::uintptr_t& result) noexcept {
  CfiCursor head(memory, at, memory.end());
  const std::uint64_t length = head.uleb();
  if (!head.ok() || length > memory.end() - head.at()) return Evaluation::kFailed;
  ExpressionMachine machine(CfiCursor(memory, head.at(), head.at() + length), registers, stack);
  if (first != nullptr) machine.push(*first);
  return machine.run(result);
}

}  // namespace profagent::safe
