// How a client is noticed while we have no thread: a connection to the listener raises SIGURG (ignored by
// default, so an exec'ed program cannot die of one in flight; faults.md D8), and the thread is started where
// it can be.
//
// An extra thread makes single-threaded programs slower and some system calls fail (faults.md G1, G3, H1), so
// there is none before somebody asks.
#pragma once

#include "agent/safe/events.h"

namespace profagent {

// Takes SIGURG over, if the program left it at its default. False: it is in use, and a single-threaded
// program will not be reachable before it creates a thread. `start` is called on a thread of the program
// inside a blocking system call, or, by way of safe::events.deferred, in ordinary context: never inside an
// allocator or the loader. More than once.
bool watch_for_clients(safe::EventHandler start) noexcept;

// In the child of a fork.
void forget_clients_after_fork() noexcept;

inline constexpr int kWakeSignal = 23;  // SIGURG

}  // namespace profagent
