// How a client is noticed while we have no thread: a connection to the listener raises a signal that is
// ignored by default (so an exec'ed program cannot die of one in flight), and the thread is
// started where it can be.
//
// An extra thread makes single-threaded programs slower and some system calls fail, so
// there is none before somebody asks.
#pragma once

#include "agent/safe/events.h"

namespace profagent {

// Takes a signal that the program does not use. `start` is called on a thread of the program inside a
// blocking system call, or, by way of safe::events.deferred, in ordinary context: never inside an allocator
// or the loader. More than once. `moved` is called when wake_signal() has changed because the program wants
// the old one.
void watch_for_clients(safe::EventHandler start, safe::EventHandler moved) noexcept;

// The signal to have sent when a client connects; 0: the program uses all that would do, so it is only
// reachable with a thread.
[[nodiscard]] int wake_signal() noexcept;

// The signal has its default action, which ignores it, until it is used again: also one that somebody else
// sends would end the program on an alternate stack without room for it. One that is pending is gone.
void rest_signal() noexcept;
void use_signal() noexcept;

// The same signal, for asking a thread where it stands (agent/safe/thread_asks.h), which uses it. 0 also when
// the program has taken it past our hooks.
[[nodiscard]] int asking_signal() noexcept;

// As if a client had connected: for one who may have come before the signal was set up.
void wake_now() noexcept;

// No signal comes any more that was to try again.
void stop_trying() noexcept;

// In the child of a fork.
void forget_clients_after_fork() noexcept;

}  // namespace profagent
