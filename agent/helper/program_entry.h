// The library as a program of its own: profagent's helper, and what tells a user who runs the file what it
// is.
#pragma once

namespace profagent::helper {

// Whether this process runs the library as its program; then nothing of the agent must come to life.
[[nodiscard]] bool is_own_program() noexcept;

// Serves the agent of another process until that ends: it speaks (agent/service/line_wire.h) over the socket
// that is standard input. The exit code.
int symbolize();

}  // namespace profagent::helper
