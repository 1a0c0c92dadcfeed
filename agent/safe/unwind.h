// Walks the calling thread's stack by DWARF call-frame rules. Async-signal-safe: no lock, no wait, no allocation,
// no libc call but _dl_find_object (documented lock-free and async-signal-safe, glibc 2.35).
//
// Guarantees: never faults, whatever rsp, rbp and the stack hold; never endless (bounded frames, and the CFA
// must grow except across a signal frame); never writes outside `pcs` and the agent's own caches.
// On failure the walk ends early, which is a valid, incomplete stack.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "agent/safe/types.h"

namespace profagent::safe {

// Where a walk starts: the frame whose pc is the first candidate of the stack.
// `exact` says that pc is an interrupted instruction (signal context), not a return address.
struct StartFrame {
  std::uintptr_t pc = 0;
  std::uintptr_t sp = 0;
  std::uintptr_t bp = 0;
  std::uintptr_t bx = 0, r12 = 0, r13 = 0, r14 = 0, r15 = 0;
  bool exact = false;
};

struct Stack {
  std::uint32_t depth = 0;
  bool truncated = false;   // there were more frames than room: the leaf-most are kept
  bool incomplete = false;  // the walk ended before the outermost frame was reached
  // hash_stack() of the pcs, computed on the way.
  std::uint64_t hash = 0;
  // The id that remember_stack_id() was given for this very stack by this thread's previous walk, else
  // kNoStack.
  StackId id_hint = kNoStack;
  std::uint64_t walk = 0;  // for remember_stack_id()
};

// Captures the stack above `start` into `pcs`, leaf first; frames inside the agent's own code at the leaf are
// skipped.
Stack capture_stack(const StartFrame& start, std::span<Pc> pcs) noexcept;

// After interning: lets the next identical walk of this thread skip hashing and interning.
void remember_stack_id(const Stack& stack, StackId id) noexcept;

// The hash of a stack, root first so that a walk that shares its outer frames with the last one continues
// from a stored value: h = kSeed; for pc from root to leaf: h = mix(h, pc).
std::uint64_t hash_stack(std::span<const Pc> pcs) noexcept;

// To be called after a module was unloaded: cached rules may describe code that is gone. Any thread.
void forget_unwind_rules() noexcept;

}  // namespace profagent::safe
