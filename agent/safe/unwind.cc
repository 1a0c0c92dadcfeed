#ifndef __clang__
// GCC would carry a frame's pc and sp as one vector from frame to frame, which doubles the time of a walk. Before all
// includes, so that what they define can still be inlined.
#pragma GCC optimize("no-tree-slp-vectorize")
#endif

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

  WalkEnd run(const Frame& start) noexcept;
  void finish(WalkEnd end, Stack& stack) noexcept;

 private:
  static constexpr std::uintptr_t kNever = ~std::uintptr_t{0};

  CfiMemory::Trust trust() const noexcept {
    return window_.trusting() ? CfiMemory::Trust::kDirect : CfiMemory::Trust::kProbe;
  }

  // Steps that the loop of run() does not do itself. kNext: `frame` is the caller.
  StepResult step(RuleKind kind, Frame& frame) noexcept;
  StepResult step_in_full(Frame& frame, bool by_sigreturn) noexcept;

  // Called with each new frame whose sp is at or above next_sp_. True: outer frames were taken over, and `frame` is
  // the last of them, recorded.
  bool meet(Frame& frame) noexcept;
  bool take_over(std::uint32_t index, Frame& frame) noexcept;
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

// What changes with every frame lives in locals while the loop turns; the members get it for the calls that are rare.
WalkEnd FastWalk::run(const Frame& start) noexcept {
  if (!window_.enter(start.sp)) {
    if (capacity_ != 0) pcs_[depth_++] = start.pc;
    hash_again_ = true;
    return WalkEnd::kLost;
  }
  const RuleTable* const table = table_;
  Pc* const first = pcs_;
  Pc* const full = pcs_ + capacity_;
  Pc* next = first;
  Pc pc = start.pc;
  std::uintptr_t sp = start.sp;
  std::uintptr_t bp = start.bp;
  std::uintptr_t end = window_.end();
  std::uintptr_t next_sp = next_sp_;
  std::uint64_t sum = 0;
  std::uint64_t power = 1;
  WalkFrame* record = scratch_;  // null: this walk is not recorded (any more)
  bool joined = false;
  // Does a rare thing with the members up to date.
  const auto apart = [&](auto&& rare) __attribute__((always_inline)) {
    depth_ = static_cast<std::uint32_t>(next - first);
    sum_ = sum;
    power_ = power;
    if (record != nullptr) recorded_ = static_cast<std::uint32_t>(record - scratch_);
    Frame frame{pc, sp, bp};
    const auto result = rare(frame);
    pc = frame.pc;
    sp = frame.sp;
    bp = frame.bp;
    next = first + depth_;
    sum = sum_;
    power = power_;
    joined = joined_;
    record = cache_ == nullptr || joined ? nullptr : scratch_ + recorded_;
    end = window_.end();
    next_sp = next_sp_;
    return result;
  };
  WalkEnd result = WalkEnd::kLost;
  unsigned to_skip = skipped_bytes.load(std::memory_order_relaxed) != 0 ? kMaxSkippedFrames : 0;
  for (;;) {
    bool skip = false;
    if (to_skip != 0) {
      skip = is_skipped(pc);
      to_skip = skip ? to_skip - 1 : 0;
    }
    if (!skip) {
      if (sp < next_sp || !apart([&](Frame& frame) { return meet(frame); })) {
        if (next == full) {
          result = WalkEnd::kTruncated;
          break;
        }
        *next++ = pc;
      }
    }
    PackedRule rule = table != nullptr ? table->find(pc) : PackedRule();
    if (rule.kind() == RuleKind::kNone) rule = look_up_rule(pc, trust());
    if (!skip && !joined) {
      sum += pc * power;
      power *= kHashFactor;
      if (record != nullptr) {
        record->pc = pc;
        record->sp = sp;
        record->bp = bp;
        record->rule = rule;
        ++record;
      }
    }
    std::uintptr_t cfa = sp + rule.cfa_offset();
    if (rule.kind() != RuleKind::kFromSp) {
      if (rule.kind() != RuleKind::kFromBp) {
        const StepResult stepped = apart([&](Frame& frame) { return step(rule.kind(), frame); });
        if (stepped == StepResult::kNext) continue;
        if (stepped == StepResult::kEnd) result = WalkEnd::kOutermost;
        if (stepped == StepResult::kUnknownRegister) result = WalkEnd::kNeedsRegisters;
        break;
      }
      cfa = bp + rule.cfa_offset();
      if (bp < sp || cfa < bp) break;
    }
    if (cfa > end) {
      const std::uintptr_t lowest = rule.bp_distance() > kWord ? rule.bp_distance() : kWord;
      if (!window_.reach(cfa - lowest, cfa)) break;
      end = window_.end();
    }
    const std::uintptr_t return_address = load(cfa - kWord);
    if (rule.bp_distance() != 0) bp = load(cfa - rule.bp_distance());
    sp = cfa;
    pc = caller_pc(ReturnAddress{return_address});
    if (!is_code_address(pc)) {
      if (return_address == 0) result = WalkEnd::kOutermost;
      break;
    }
  }
  apart([](Frame&) { return 0; });
  return result;
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

[[gnu::noinline]] bool FastWalk::meet(Frame& frame) noexcept {
  if (depth_ == capacity_) return false;
  WalkFrame* remembered = cache_->frames();
  const std::uint32_t last = cache_->end();
  if (!joined_) {
    while (candidate_ < last && remembered[candidate_].sp < frame.sp) ++candidate_;
  }
  const bool same = candidate_ < last && remembered[candidate_].sp == frame.sp && remembered[candidate_].pc == frame.pc;
  if (same) cache_->prepare(candidate_);
  if (same && (remembered[candidate_].bp == frame.bp || !remembered[candidate_].bp_matters)) {
    if (window_.trusting()) return take_over(candidate_, frame);
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

bool FastWalk::take_over(std::uint32_t index, Frame& frame) noexcept {
  const WalkFrame* const remembered = cache_->frames();
  const WalkFrame* inner = remembered + index;
  const std::uint32_t room = capacity_ - depth_ - 1;
  const WalkFrame* limit = remembered + inner->run_end;
  if (limit > inner + room) limit = inner + room;
  if (!window_.grow(limit->sp)) {
    while (limit->sp > window_.end() && limit != inner) --limit;
  }
  Pc* next = pcs_ + depth_;
  *next++ = inner->pc;
  while (inner != limit) {
    const WalkFrame* const outer = inner + 1;
    if (load(outer->sp - kWord) != outer->pc + 1) break;
    if (inner->compare_saved_bp && load(outer->sp - inner->rule.bp_distance()) != outer->bp) break;
    *next++ = outer->pc;
    inner = outer;
  }
  const bool changed = inner != limit;
  depth_ = static_cast<std::uint32_t>(next - pcs_);
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
