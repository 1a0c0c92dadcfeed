// The pprof clients that the build has made (test/conformance/meson.build).
#pragma once

#include <string>

#include "test/support/process.h"

namespace profagent::test {

// Where a program lies that was made of Go.
[[nodiscard]] std::string tool(const std::string& name);

// Runs one of the pprof clients, "go_pprof" (go tool pprof) or "pprof" (google/pprof), which keeps its copies
// of the profiles in a folder of its own.
Outcome client(const std::string& name, Arguments arguments);
Outcome go_pprof(Arguments arguments);

// The rows "flat flat% sum% cum cum% name" of -top, without the head that names the time and the total.
[[nodiscard]] std::string rows_of(const std::string& top);

}  // namespace profagent::test
