// A network for a test alone: all ports are free, and there is an address that is not loopback and that
// nobody else can reach.
#pragma once

namespace profagent::test {

// Of the network that take_own_network() makes.
inline constexpr char kOwnAddress[] = "10.9.8.7";

// Moves this process, and what it starts from now on, into a network namespace of its own. False, with a
// warning in the test's output, where the kernel does not allow that. Once for a process; it must not have a
// second thread, unless it is root's.
[[nodiscard]] bool take_own_network();

}  // namespace profagent::test
