// Text that every client accepts. Symbol and file names come from other people's binaries and may hold any
// byte; Pyroscope refuses a whole profile for one invalid sequence.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace profagent::encoder {

// Pyroscope cuts longer strings.
inline constexpr std::size_t kMaxStringBytes = 65535;

enum class Controls { kKeep, kEscape };

// Strict UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
[[nodiscard]] bool is_utf8(std::string_view text);

// The text with every byte that is not part of valid UTF-8 written as \xNN (and, on request, every ASCII
// control character: line-based formats must not be broken by a name). At most `max_bytes` long; the cut
// never splits a character or an escape.
[[nodiscard]] std::string to_utf8(std::string_view text, std::size_t max_bytes = kMaxStringBytes,
                                  Controls controls = Controls::kKeep);

}  // namespace profagent::encoder
