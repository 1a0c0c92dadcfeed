#include "agent/safe/unwind.h"

#include "agent/safe/rule_cache.h"
#include "agent/safe/unwind_fast.h"
#include "agent/safe/unwind_registers.h"
#include "agent/safe/unwind_window.h"
#include "agent/safe/walk_cache.h"

namespace profagent::safe {

namespace {

// Room for the pool index in Stack::walk.
constexpr unsigned kWalkShift = 8;

constinit std::atomic<std::uintptr_t> skipped_begin = 0;
constinit std::atomic<std::uintptr_t> skipped_bytes = 0;

// The walk with all registers: slower, remembers nothing, and rarely needed (a CFA in rbx as in the dynamic
// linker's trampolines, or in r10 as in the prologue of a function that aligns its stack).
[[gnu::noinline]] void walk_with_registers(const StartFrame& start, std::span<Pc> pcs,
                                           Stack& stack) noexcept {
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

bool is_skipped(Pc pc) noexcept {
  return pc - skipped_begin.load(std::memory_order_relaxed) < skipped_bytes.load(std::memory_order_relaxed);
}
bool skips_frames() noexcept {
  return skipped_bytes.load(std::memory_order_relaxed) != 0;
}

std::uint64_t finish_hash(std::uint64_t hash) noexcept {
  hash ^= hash >> 32U;
  hash *= 0xd6e8feb86659fd93;
  return hash ^ hash >> 32U;
}

Stack capture_stack(const StartFrame& start, std::span<Pc> pcs) noexcept {
  if (pcs.size() > kMaxStackDepth) pcs = pcs.first(kMaxStackDepth);
  Stack stack;
  const LeasedCache lease = lease_walk_cache();
  // Pairs with the release in forget_unwind_rules().
  if (lease.cache != nullptr) lease.cache->check_generation(rule_generation.load(std::memory_order_acquire));
  FastWalk walk(pcs, lease.cache);
  const Pc pc = start.exact ? start.pc : caller_pc(ReturnAddress{start.pc});
  const WalkEnd end = walk.run(pc, start.sp, start.bp);
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
  // Release pairs with the acquires in look_up_rule() and capture_stack(): whoever sees the new generation
  // sees the module unloaded. A walk that is under way may finish with old rules.
  rule_generation.fetch_add(1, std::memory_order_release);
  if (RuleTable* table = rule_table(); table != nullptr) table->clear();
}

void skip_frames_of(std::uintptr_t text_begin, std::uintptr_t text_end) noexcept {
  // Two words, written once before the first walk that matters.
  skipped_begin.store(text_begin, std::memory_order_relaxed);
  skipped_bytes.store(text_end - text_begin, std::memory_order_relaxed);
}

void unlock_walk_caches_after_fork() noexcept {
  unlock_all_walk_caches();
}

}  // namespace profagent::safe
