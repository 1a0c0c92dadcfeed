// When this process began. On our thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace profagent::service {

// Field 22 of /proc/PID/stat (proc(5)): clock ticks since the machine was started.
[[nodiscard]] std::optional<std::uint64_t> parse_start_ticks(std::string_view stat);

// In nanoseconds of the clock that files are dated by, as that clock is set now: when it has been put forward
// since, the process seems to have begun later. Nothing without /proc.
[[nodiscard]] std::optional<std::int64_t> process_start();

}  // namespace profagent::service
