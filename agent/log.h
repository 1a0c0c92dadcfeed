// The agent's log: silent unless PROFAGENT_LOG says otherwise, because programs' output is compared, piped
// and parsed. Lines go to standard error or are appended to PROFAGENT_LOG_FILE. Any thread in ordinary
// context; allocates nothing; a line that cannot be written is lost.
#pragma once

#include <initializer_list>
#include <string_view>

namespace profagent {

enum class LogLevel { kSilent, kError, kInfo, kDebug };

// One line: "profagent[PID]: " and the parts.
void log(LogLevel level, std::initializer_list<std::string_view> parts) noexcept;

// The log goes to the program's standard error.
[[nodiscard]] bool logs_to_stderr() noexcept;

}  // namespace profagent
