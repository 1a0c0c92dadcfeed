// The agent's settings: read once from the environment at start, then plain relaxed atomics that any thread
// may read. The rows are in settings.def.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace profagent::safe {

using Setting = std::atomic<std::int64_t>;

// The words of a LIVE_CHOICE row.
[[nodiscard]] constexpr std::int64_t last_choice(std::string_view words) noexcept {
  std::int64_t spaces = 0;
  for (const char c : words) spaces += c == ' ' ? 1 : 0;
  return spaces;
}
// The word at a position; and the position of a word, -1 when it is none of them.
[[nodiscard]] std::string_view choice_at(std::string_view words, std::int64_t position) noexcept;
[[nodiscard]] std::int64_t choice_of(std::string_view words, std::string_view word) noexcept;

struct Settings {
#define PROFAGENT_NUMBER(name, variable, initial, minimum, maximum, help) Setting name{initial};
#define PROFAGENT_TEXT(name, variable, help) std::atomic<const char*> name{""};
#include "agent/safe/settings.def"
#undef PROFAGENT_NUMBER
#undef PROFAGENT_TEXT
};

extern constinit Settings settings;

// A variable whose value could not be used; the default stands. Both texts live for ever.
struct SettingProblem {
  const char* variable;
  const char* value;
};

// Takes the settings from `environment` ("NAME=value", null-terminated list); called once, before any thread
// of ours. Values are copied: programs overwrite their environment (setproctitle). `environment` rather than
// getenv(), which the program may define itself (bash does).
void read_settings(const char* const* environment) noexcept;

// True when read_settings() took the value of `variable` from the environment.
[[nodiscard]] bool was_set(std::string_view variable) noexcept;

// Changes a LIVE_NUMBER or LIVE_CHOICE by its name. What depends on it must be told. Our thread.
enum class ChangeResult : std::uint8_t { kDone, kUnknown, kNotLive, kOutOfBounds };
struct Bounds {
  std::int64_t minimum;
  std::int64_t maximum;
};
// kDone: it could be changed so. `bounds` is set for a number.
[[nodiscard]] ChangeResult can_change(std::string_view name, std::int64_t value, Bounds& bounds) noexcept;
// The words of a LIVE_CHOICE; empty for any other name.
[[nodiscard]] std::string_view choices_of(std::string_view name) noexcept;
void change(std::string_view name, std::int64_t value) noexcept;
// True when change() was called for `variable` since the start.
[[nodiscard]] bool was_changed(std::string_view variable) noexcept;

// For a value whose meaning only somebody else knows. Not after our thread was started.
void report_setting(const char* variable, const char* value) noexcept;

inline constexpr std::size_t kMaxSettingProblems = 16;
[[nodiscard]] std::size_t setting_problem_count() noexcept;
[[nodiscard]] const SettingProblem& setting_problem(std::size_t index) noexcept;

// Finds NAME in an environment list; nullptr when absent.
[[nodiscard]] const char* find_variable(const char* const* environment, std::string_view name) noexcept;

}  // namespace profagent::safe
