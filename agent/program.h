// Which program have we been loaded into, and should it be profiled?
#pragma once

#include <cstddef>
#include <string_view>

namespace profagent {

enum class Role {
  kProfiled,
  kDormant,  // a wrapper, or not named in PROFAGENT_PROGRAMS: hooks forward, no listener, no thread
  kInert,    // must not act at all: set-uid and friends, or a second copy of the agent
};

struct Program {
  Role role = Role::kInert;
  std::string_view reason;    // in words, for kDormant and kInert
  char name[256] = {};        // base name of the executable
  char started_as[256] = {};  // base name of the path that was executed: a link's, or a script's
};

// Called once at load, after read_settings().
[[nodiscard]] Program identify_program() noexcept;

// `pattern`: comma-separated globs with * and ?; spaces around them do not count.
[[nodiscard]] bool matches_any(std::string_view patterns, std::string_view name) noexcept;

}  // namespace profagent
