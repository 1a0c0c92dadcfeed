// A stack of our own for the work of a signal handler, because the one that it interrupts may have next to no
// room: an alternate stack of 4 KiB, a coroutine's, a thread's with PTHREAD_STACK_MIN.
//
// The handler must have all signals blocked (its sa_mask): a nested handler of the program would run on our
// stack, and might leave it by siglongjmp for ever.
#pragma once

#include <cstddef>

namespace profagent::safe {

inline constexpr std::size_t kSignalStackBytes = std::size_t{16} << 10;

// Maps the stacks. On our thread, before the first signal. False when there is no memory.
[[nodiscard]] bool prepare_signal_stacks() noexcept;

// Calls function(argument) on one of the stacks. False, and not called, when all are in use. Takes less than
// 128 bytes of the present stack.
[[nodiscard]] bool run_on_signal_stack(void (*function)(void*) noexcept, void* argument) noexcept;

// In the child of fork(): what other threads held is free again.
void free_signal_stacks_after_fork() noexcept;

}  // namespace profagent::safe
