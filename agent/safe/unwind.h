// Walks the calling thread's stack by DWARF call-frame rules. Async-signal-safe: no lock, no wait, no
// allocation, no libc call but _dl_find_object (documented lock-free and async-signal-safe, glibc 2.35).
//
// Guarantees: never faults, whatever rsp, rbp and the stack hold; never endless (bounded frames, and the CFA
// must grow except across a signal frame); never writes outside `pcs` and the agent's own caches.
// On failure the walk ends early, which is a valid, incomplete stack.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <ucontext.h>

#include "agent/safe/types.h"

namespace profagent::safe {

// Where a walk starts: the frame whose pc is the first candidate of the stack. It must be a frame of the
// calling thread that stays alive during the walk.
struct StartFrame {
  std::uintptr_t pc = 0;
  std::uintptr_t sp = 0;
  std::uintptr_t bp = 0;
  // All registers, for an interrupted frame. Null for a hook's caller: when a rule asks for another
  // callee-saved register, capture_stack() finds it by walking the agent's own frames below this one.
  const mcontext_t* registers = nullptr;
  // `pc` is an interrupted instruction, not a return address.
  bool exact = false;
};

// The caller of the function that this is inlined into.
[[gnu::always_inline]] inline StartFrame caller_frame() noexcept {
  const auto frame = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  StartFrame start;
  start.pc = reinterpret_cast<std::uintptr_t>(__builtin_return_address(0));
  start.sp = frame + 2 * sizeof(std::uintptr_t);
  start.bp = *reinterpret_cast<const std::uintptr_t*>(frame);
  return start;
}

// What a signal interrupted. `context` must outlive the walk.
[[nodiscard]] inline StartFrame frame_of(const ucontext_t& context) noexcept {
  StartFrame start;
  start.pc = static_cast<std::uintptr_t>(context.uc_mcontext.gregs[REG_RIP]);
  start.sp = static_cast<std::uintptr_t>(context.uc_mcontext.gregs[REG_RSP]);
  start.bp = static_cast<std::uintptr_t>(context.uc_mcontext.gregs[REG_RBP]);
  start.registers = &context.uc_mcontext;
  start.exact = true;
  return start;
}

struct Stack {
  std::uint32_t depth = 0;
  bool truncated = false;   // there were more frames than room: the leaf-most are kept
  bool incomplete = false;  // the walk ended before the outermost frame was reached
  // hash_stack() of the pcs, computed on the way.
  std::uint64_t hash = 0;
  // The id that remember_stack_id() was given for this very stack by this thread's previous walk, else
  // kNoStack.
  StackId id_hint = kNoStack;
  std::uint64_t walk = 0;  // for remember_stack_id(); 0: nothing to remember it in
};

// Captures the stack above `start` into `pcs` (at most kMaxStackDepth are used), leaf first; frames inside
// the agent's own code at the leaf are skipped.
Stack capture_stack(const StartFrame& start, std::span<Pc> pcs) noexcept;

// After interning: lets the next identical walk of this thread skip hashing and interning.
void remember_stack_id(const Stack& stack, StackId id) noexcept;

// The hash of a stack, the finished value of a polynomial: h = seed; for pc from root to leaf: h = h * K +
// pc. It can be summed from either end, so a walk that shares its outer frames with the last one starts from
// a stored value.
std::uint64_t hash_stack(std::span<const Pc> pcs) noexcept;

// To be called after a module was loaded or unloaded: cached rules may describe code that is gone. Any
// thread.
void forget_unwind_rules() noexcept;

// The text whose frames are skipped at the leaf; called once, while the agent starts. Default: none.
void skip_frames_of(std::uintptr_t text_begin, std::uintptr_t text_end) noexcept;

// In the child of fork(): walk caches that other threads held at the time of the fork are usable again.
void unlock_walk_caches_after_fork() noexcept;

}  // namespace profagent::safe
