#include "agent/safe/unwind.h"

#include "agent/safe/rule_cache.h"
#include "agent/safe/unwind_registers.h"
#include "agent/safe/unwind_window.h"
#include "agent/safe/walk_cache.h"

namespace profagent::safe {

namespace {

constexpr std::uintptr_t kWord = sizeof(std::uintptr_t);
constexpr unsigned kMaxSkippedFrames = 32;
// Room for the pool index in Stack::walk.
constexpr unsigned kWalkShift = 8;

constinit std::atomic<std::uintptr_t> skipped_begin = 0;
constinit std::atomic<std::uintptr_t> skipped_bytes = 0;

bool is_skipped(Pc pc) noexcept {
  return pc - skipped_begin.load(std::memory_order_relaxed) < skipped_bytes.load(std::memory_order_relaxed);
}

// What code can be at, in user space.
bool is_code_address(std::uintptr_t pc) noexcept { return pc - 4096 < (std::uintptr_t{1} << 47U) - 4096; }

std::uintptr_t load(std::uintptr_t at) noexcept { return *reinterpret_cast<const std::uintptr_t*>(at); }

// Spreads the polynomial's high bits into the low ones, which tables index by.
std::uint64_t finish_hash(std::uint64_t hash) noexcept {
  hash ^= hash >> 32U;
  hash *= 0xd6e8feb86659fd93;
  return hash ^ hash >> 32U;
}

enum class WalkEnd : std::uint8_t {
  kOutermost,
  kTruncated,
  kLost,
  kNeedsRegisters,  // a rule asks for more than pc, sp and bp
};

struct Frame {
  Pc pc;
  std::uintptr_t sp;
  std::uintptr_t bp;
};

// A walk that follows pc, sp and bp only, which is all that nearly every rule asks for.
class FastWalk {
 public:
  FastWalk(std::span<Pc> pcs, WalkCache* cache) noexcept
      : pcs_(pcs.data()), capacity_(static_cast<std::uint32_t>(pcs.size())), cache_(cache), table_(rule_table()) {
    if (cache_ == nullptr) return;
    scratch_ = cache_->scratch();
    candidate_ = cache_->leaf();
    next_sp_ = candidate_ < cache_->end() ? cache_->frames()[candidate_].sp : kNever;
  }

  WalkEnd run(Frame frame) noexcept;
  void finish(WalkEnd end, Stack& stack) noexcept;

 private:
  static constexpr std::uintptr_t kNever = ~std::uintptr_t{0};

  PackedRule rule_of(Pc pc) noexcept {
    if (table_ != nullptr) {
      if (const PackedRule rule = table_->find(pc); rule.kind() != RuleKind::kNone) return rule;
    }
    return look_up_rule(pc, trust());
  }
  CfiMemory::Trust trust() const noexcept {
    return window_.trusting() ? CfiMemory::Trust::kDirect : CfiMemory::Trust::kProbe;
  }

  // Steps that the loop of run() does not do itself. kNext: `frame` is the caller.
  StepResult step(RuleKind kind, Frame& frame) noexcept;
  StepResult step_in_full(Frame& frame, bool by_sigreturn) noexcept;

  // Called with each new frame whose sp is at or above next_sp_. True: outer frames were taken over, and `frame` is
  // the last of them, recorded.
  bool meet(Frame& frame, std::uint32_t& depth) noexcept;
  bool take_over(std::uint32_t index, Frame& frame, std::uint32_t& depth) noexcept;
  void copy_taken(std::uint32_t from, std::uint32_t to, Frame& frame) noexcept;
  void stop_remembering() noexcept {
    cache_->forget();
    cache_ = nullptr;
    next_sp_ = kNever;
  }

  Pc* pcs_;
  std::uint32_t capacity_;
  std::uint32_t depth_ = 0;
  StackWindow window_;
  WalkCache* cache_;
  RuleTable* table_;

  // Frames of this walk, as long as it has not joined the remembered one.
  WalkFrame* scratch_ = nullptr;
  std::uint32_t recorded_ = 0;
  // The next remembered frame to meet; once joined, the one that must come next.
  std::uint32_t candidate_ = 0;
  std::uintptr_t next_sp_ = kNever;
  bool joined_ = false;
  std::uint32_t joined_at_ = 0;

  // Of the recorded frames, leaf first: sum of pc[i] * K^i, and the next power of K.
  std::uint64_t sum_ = 0;
  std::uint64_t power_ = 1;
  bool hash_again_ = false;
};

WalkEnd FastWalk::run(Frame frame) noexcept {
  if (!window_.enter(frame.sp)) {
    if (capacity_ != 0) pcs_[depth_++] = frame.pc;
    hash_again_ = true;
    return WalkEnd::kLost;
  }
  std::uintptr_t end = window_.end();
  for (unsigned skipped = 0;;) {
    const bool skip = depth_ == 0 && skipped < kMaxSkippedFrames && is_skipped(frame.pc);
    if (skip) {
      ++skipped;
    } else if (frame.sp >= next_sp_ && meet(frame, depth_)) {
      end = window_.end();
    } else {
      if (depth_ == capacity_) return WalkEnd::kTruncated;
      pcs_[depth_++] = frame.pc;
    }
    const PackedRule rule = rule_of(frame.pc);
    if (!skip && !joined_) {
      sum_ += frame.pc * power_;
      power_ *= kHashFactor;
      if (cache_ != nullptr) {
        WalkFrame& record = scratch_[recorded_++];
        record.pc = frame.pc;
        record.sp = frame.sp;
        record.bp = frame.bp;
        record.rule = rule;
      }
    }
    if (!rule.is_plain()) {
      const StepResult result = step(rule.kind(), frame);
      end = window_.end();
      if (result == StepResult::kNext) continue;
      if (result == StepResult::kEnd) return WalkEnd::kOutermost;
      return result == StepResult::kUnknownRegister ? WalkEnd::kNeedsRegisters : WalkEnd::kLost;
    }
    std::uintptr_t cfa = frame.sp + rule.cfa_offset();
    if (rule.kind() == RuleKind::kFromBp) {
      if (frame.bp < frame.sp) return WalkEnd::kLost;
      cfa = frame.bp + rule.cfa_offset();
      if (cfa < frame.bp) return WalkEnd::kLost;
    }
    if (cfa > end) {
      const std::uintptr_t lowest = rule.bp_distance() > kWord ? rule.bp_distance() : kWord;
      if (!window_.reach(cfa - lowest, cfa)) return WalkEnd::kLost;
      end = window_.end();
    }
    const std::uintptr_t return_address = load(cfa - kWord);
    if (rule.bp_distance() != 0) frame.bp = load(cfa - rule.bp_distance());
    frame.sp = cfa;
    if (return_address == 0) return WalkEnd::kOutermost;
    frame.pc = caller_pc(ReturnAddress{return_address});
    if (!is_code_address(frame.pc)) return WalkEnd::kLost;
  }
}

[[gnu::noinline]] StepResult FastWalk::step(RuleKind kind, Frame& frame) noexcept {
  if (kind == RuleKind::kEnd) return StepResult::kEnd;
  if (kind == RuleKind::kFull || kind == RuleKind::kSigreturn) {
    return step_in_full(frame, kind == RuleKind::kSigreturn);
  }
  bool clean = false;
  std::uintptr_t return_address = 0;
  if (!step_by_frame_pointer(window_, frame.sp, frame.bp, return_address, clean)) {
    return clean ? StepResult::kEnd : StepResult::kLost;
  }
  frame.pc = caller_pc(ReturnAddress{return_address});
  return is_code_address(frame.pc) ? StepResult::kNext : StepResult::kLost;
}

[[gnu::noinline]] StepResult FastWalk::step_in_full(Frame& frame, bool by_sigreturn) noexcept {
  Registers registers;
  registers.set(kRegisterPc, frame.pc);
  registers.set(kRegisterSp, frame.sp);
  registers.set(kRegisterBp, frame.bp);
  const Step step = by_sigreturn ? step_by_sigreturn(window_, registers)
                                 : step_by_rule(frame.pc, trust(), window_, registers);
  if (step.result != StepResult::kNext) return step.result;
  frame.sp = registers.value[kRegisterSp];
  if (registers.knows(kRegisterBp)) frame.bp = registers.value[kRegisterBp];
  const std::uintptr_t pc = registers.value[kRegisterPc];
  if (pc == 0) return StepResult::kEnd;
  if (step.signal_frame) {
    // The trampoline was never called: its address is no return address, and its caller's is exact.
    if (depth_ > 1) pcs_[depth_ - 1] += 1;
    hash_again_ = true;
  }
  frame.pc = step.signal_frame ? pc : caller_pc(ReturnAddress{pc});
  return is_code_address(frame.pc) ? StepResult::kNext : StepResult::kLost;
}

[[gnu::noinline]] bool FastWalk::meet(Frame& frame, std::uint32_t& depth) noexcept {
  if (depth == capacity_) return false;
  WalkFrame* remembered = cache_->frames();
  const std::uint32_t last = cache_->end();
  if (!joined_) {
    while (candidate_ < last && remembered[candidate_].sp < frame.sp) ++candidate_;
  }
  const bool same = candidate_ < last && remembered[candidate_].sp == frame.sp && remembered[candidate_].pc == frame.pc;
  if (same) cache_->prepare(candidate_);
  if (same && (remembered[candidate_].bp == frame.bp || !remembered[candidate_].bp_matters)) {
    if (window_.trusting()) return take_over(candidate_, frame, depth);
    // Code without rules lies below: walk on, only notice that nothing changed.
    if (joined_) ++candidate_;
  } else if (joined_) {
    stop_remembering();
    hash_again_ = true;
  }
  if (!joined_) {
    next_sp_ = kNever;
    if (candidate_ < last) next_sp_ = remembered[candidate_].sp + (remembered[candidate_].sp == frame.sp ? 1 : 0);
  }
  return false;
}

bool FastWalk::take_over(std::uint32_t index, Frame& frame, std::uint32_t& depth) noexcept {
  const WalkFrame* remembered = cache_->frames();
  const WalkFrame* inner = remembered + index;
  const WalkFrame* last = remembered + cache_->end() - 1;
  std::uint32_t taken = depth;
  std::uintptr_t end = window_.end();
  bool changed = false;
  pcs_[taken++] = inner->pc;
  while (inner != last && inner->rule.is_plain() && taken < capacity_) {
    const WalkFrame* outer = inner + 1;
    if (outer->sp > end) {
      if (!window_.reach(outer->sp - kWord, outer->sp)) break;
      end = window_.end();
    }
    if (load(outer->sp - kWord) != outer->pc + 1 ||
        (inner->compare_saved_bp && load(outer->sp - inner->rule.bp_distance()) != outer->bp)) {
      changed = true;
      break;
    }
    pcs_[taken++] = outer->pc;
    inner = outer;
  }
  depth = taken;
  const auto reached = static_cast<std::uint32_t>(inner - remembered);
  if (changed && joined_) {
    stop_remembering();
    hash_again_ = true;
  } else if (changed) {
    copy_taken(index, reached, frame);
    candidate_ = reached + 1;
    next_sp_ = candidate_ < cache_->end() ? cache_->frames()[candidate_].sp : kNever;
    return true;
  } else {
    if (!joined_) joined_at_ = index;
    joined_ = true;
    candidate_ = reached + 1;
    next_sp_ = 0;
  }
  frame = {inner->pc, inner->sp, inner->bp};
  return true;
}

// The remembered frames [from, to) belong to this walk, but what follows them changed: record them like walked ones.
// Their bps are found again: where a bp did not matter to the old outer frames it was not compared.
void FastWalk::copy_taken(std::uint32_t from, std::uint32_t to, Frame& frame) noexcept {
  const WalkFrame* remembered = cache_->frames();
  for (std::uint32_t i = from; i < to; ++i) {
    WalkFrame& record = scratch_[recorded_++];
    record = remembered[i];
    record.bp = frame.bp;
    sum_ += record.pc * power_;
    power_ *= kHashFactor;
    if (record.rule.bp_distance() != 0) frame.bp = load(remembered[i + 1].sp - record.rule.bp_distance());
  }
  frame.pc = remembered[to].pc;
  frame.sp = remembered[to].sp;
}

void FastWalk::finish(WalkEnd end, Stack& stack) noexcept {
  window_.save();
  stack.depth = depth_;
  stack.truncated = end == WalkEnd::kTruncated;
  stack.incomplete = end == WalkEnd::kLost;
  std::uint64_t outer_hash = kHashSeed;
  if (cache_ == nullptr) {
    hash_again_ = hash_again_ || joined_;
  } else if (!joined_) {
    cache_->replace(recorded_);
  } else {
    // Every frame so far was the remembered one; is this all of them?
    if (candidate_ == cache_->end()) {
      outer_hash = cache_->frames()[joined_at_].hash;
    } else {
      hash_again_ = true;
    }
    cache_->put_before(joined_at_, recorded_);
    stack.id_hint = cache_->id(depth_);
  }
  stack.hash = hash_again_ ? hash_stack({pcs_, depth_}) : finish_hash(sum_ + power_ * outer_hash);
}

// The walk with all registers: slower, remembers nothing, and rarely needed (a CFA in rbx as in the dynamic linker's
// trampolines, or in r10 as in the prologue of a function that aligns its stack).
[[gnu::noinline]] void walk_with_registers(const StartFrame& start, std::span<Pc> pcs, Stack& stack) noexcept {
  StackWindow window;
  Registers registers;
  stack = Stack{};
  stack.incomplete = true;
  registers_at(start, window, registers);
  Pc pc = start.exact ? start.pc : caller_pc(ReturnAddress{start.pc});
  unsigned skipped = 0;
  for (bool known = window.enter(start.sp); known && is_code_address(pc);) {
    if (stack.depth == 0 && skipped < kMaxSkippedFrames && is_skipped(pc)) {
      ++skipped;
    } else {
      if (stack.depth == pcs.size()) {
        stack.truncated = true;
        stack.incomplete = false;
        break;
      }
      pcs[stack.depth++] = pc;
    }
    const CfiMemory::Trust trust = window.trusting() ? CfiMemory::Trust::kDirect : CfiMemory::Trust::kProbe;
    const RuleKind kind = look_up_rule(pc, trust).kind();
    Step step;
    if (kind == RuleKind::kNoCfi) {
      bool clean = false;
      std::uintptr_t sp = registers.value[kRegisterSp];
      std::uintptr_t bp = registers.value[kRegisterBp];
      std::uintptr_t return_address = 0;
      const bool found = step_by_frame_pointer(window, sp, bp, return_address, clean);
      step.result = found ? StepResult::kNext : clean ? StepResult::kEnd : StepResult::kLost;
      registers = Registers{};
      registers.set(kRegisterPc, return_address);
      registers.set(kRegisterSp, sp);
      registers.set(kRegisterBp, bp);
    } else if (kind == RuleKind::kSigreturn) {
      step = step_by_sigreturn(window, registers);
    } else {
      step = step_by_rule(pc, trust, window, registers);
    }
    const std::uintptr_t next = registers.value[kRegisterPc];
    stack.incomplete = step.result != StepResult::kEnd && !(step.result == StepResult::kNext && next == 0);
    if (step.result != StepResult::kNext) break;
    if (step.signal_frame && stack.depth > 1) pcs[stack.depth - 1] += 1;
    pc = step.signal_frame ? next : caller_pc(ReturnAddress{next});
  }
  window.save();
  stack.hash = hash_stack(pcs.first(stack.depth));
}

}  // namespace

Stack capture_stack(const StartFrame& start, std::span<Pc> pcs) noexcept {
  if (pcs.size() > kMaxStackDepth) pcs = pcs.first(kMaxStackDepth);
  Stack stack;
  const LeasedCache lease = lease_walk_cache();
  // Pairs with the release in forget_unwind_rules().
  if (lease.cache != nullptr) lease.cache->check_generation(rule_generation.load(std::memory_order_acquire));
  FastWalk walk(pcs, lease.cache);
  const Pc pc = start.exact ? start.pc : caller_pc(ReturnAddress{start.pc});
  const WalkEnd end = walk.run({pc, start.sp, start.bp});
  if (end != WalkEnd::kNeedsRegisters) {
    walk.finish(end, stack);
    if (lease.cache != nullptr) {
      stack.walk = std::uint64_t{lease.cache->walk_number()} << kWalkShift | (lease.index + 1);
    }
  }
  if (lease.cache != nullptr) lease.cache->unlock();
  if (end == WalkEnd::kNeedsRegisters) walk_with_registers(start, pcs, stack);
  return stack;
}

void remember_stack_id(const Stack& stack, StackId id) noexcept {
  if (stack.walk == 0) return;
  const auto index = static_cast<std::uint32_t>(stack.walk & ((1U << kWalkShift) - 1)) - 1;
  WalkCache* cache = lease_walk_cache(index);
  if (cache == nullptr) return;
  if (cache->walk_number() == stack.walk >> kWalkShift) cache->set_id(id, stack.depth);
  cache->unlock();
}

std::uint64_t hash_stack(std::span<const Pc> pcs) noexcept {
  std::uint64_t hash = kHashSeed;
  for (std::size_t i = pcs.size(); i-- > 0;) hash = hash * kHashFactor + pcs[i];
  return finish_hash(hash);
}

void forget_unwind_rules() noexcept {
  // Release pairs with the acquires in look_up_rule() and capture_stack(): whoever sees the new generation sees the
  // module unloaded. A walk that is under way may finish with old rules.
  rule_generation.fetch_add(1, std::memory_order_release);
  if (RuleTable* table = rule_table(); table != nullptr) table->clear();
}

void skip_frames_of(std::uintptr_t text_begin, std::uintptr_t text_end) noexcept {
  // Two words, written once before the first walk that matters.
  skipped_begin.store(text_begin, std::memory_order_relaxed);
  skipped_bytes.store(text_end - text_begin, std::memory_order_relaxed);
}

void unlock_walk_caches_after_fork() noexcept { unlock_all_walk_caches(); }

}  // namespace profagent::safe
