// The token that clients of other machines must show, from a file that nobody else can read. Same rules as
// listen.h: it is read on a thread of the program, nothing allocates or throws.
#pragma once

#include "agent/service/listen_text.h"

namespace profagent::service {

using Token = FixedText<512>;

// What is shorter can be guessed.
inline constexpr std::size_t kShortestToken = 16;

// Reads the first and only line of `path`. The file must be a regular one, not reached by a symbolic link in
// its last part, that belongs to us or root and gives others no right; the token is printable ASCII without
// spaces. False, with the reason in `problem`, when any of that is not so.
[[nodiscard]] bool read_token(const char* path, Token* token, ProblemText* problem) noexcept;

}  // namespace profagent::service
