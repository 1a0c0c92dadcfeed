#include "agent/safe/settings.h"

#include <cstring>
#include <optional>
#include <type_traits>

#include "agent/safe/arena.h"

namespace profagent::safe {

constinit Settings settings;
static_assert(std::is_trivially_destructible_v<Settings>);

namespace {

// Which rows were given in the environment, by position in the table.
enum class Row : std::size_t {
#define PROFAGENT_NUMBER(name, variable, initial, minimum, maximum, help) name,
#define PROFAGENT_TEXT(name, variable, help) name,
#include "agent/safe/settings.def"
#undef PROFAGENT_NUMBER
#undef PROFAGENT_TEXT
  kCount
};

constinit bool given[static_cast<std::size_t>(Row::kCount)] = {};
// And which were changed later.
constinit std::atomic<bool> changed[static_cast<std::size_t>(Row::kCount)] = {};
constinit SettingProblem problems[kMaxSettingProblems] = {};
constinit std::size_t problem_count = 0;

const char* copy(const char* text) {
  const std::size_t bytes = std::strlen(text) + 1;
  auto* kept = static_cast<char*>(arena.allocate(bytes));
  return kept == nullptr ? "" : static_cast<const char*>(std::memcpy(kept, text, bytes));
}

// Base 10, optional minus, nothing else: no spaces, no suffixes, no overflow.
std::optional<std::int64_t> parse_number(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  if (text.empty()) return std::nullopt;
  std::int64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, c - '0', &value))
      return std::nullopt;
  }
  return negative ? -value : value;
}

void read_number(Setting& setting, Row row, const char* const* environment, const char* variable,
                 std::int64_t minimum, std::int64_t maximum) {
  const char* text = find_variable(environment, variable);
  if (text == nullptr || *text == '\0') return;
  const std::optional<std::int64_t> value = parse_number(text);
  if (!value || *value < minimum || *value > maximum) return report_setting(variable, text);
  setting.store(*value, std::memory_order_relaxed);
  given[static_cast<std::size_t>(row)] = true;
}

void read_choice(Setting& setting, Row row, const char* const* environment, const char* variable,
                 std::string_view words) {
  const char* text = find_variable(environment, variable);
  if (text == nullptr || *text == '\0') return;
  const std::int64_t position = choice_of(words, text);
  if (position < 0) return report_setting(variable, text);
  setting.store(position, std::memory_order_relaxed);
  given[static_cast<std::size_t>(row)] = true;
}

void read_text(std::atomic<const char*>& setting, Row row, const char* const* environment,
               const char* variable) {
  const char* text = find_variable(environment, variable);
  if (text == nullptr || *text == '\0') return;
  setting.store(copy(text), std::memory_order_relaxed);
  given[static_cast<std::size_t>(row)] = true;
}

}  // namespace

std::string_view choice_at(std::string_view words, std::int64_t position) noexcept {
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= words.size(); ++i) {
    if (i < words.size() && words[i] != ' ') continue;
    if (position-- == 0) return {words.data() + begin, i - begin};  // substr() may throw
    begin = i + 1;
  }
  return {};
}

std::int64_t choice_of(std::string_view words, std::string_view word) noexcept {
  for (std::int64_t position = last_choice(words); position >= 0; --position)
    if (choice_at(words, position) == word) return position;
  return -1;
}

const char* find_variable(const char* const* environment, std::string_view name) noexcept {
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    const std::string_view entry(*environment);
    if (entry.size() > name.size() && entry.starts_with(name) && entry[name.size()] == '=') {
      return *environment + name.size() + 1;
    }
  }
  return nullptr;
}

void read_settings(const char* const* environment) noexcept {
#define PROFAGENT_NUMBER(name, variable, initial, minimum, maximum, help) \
  read_number(settings.name, Row::name, environment, variable, minimum, maximum);
#define PROFAGENT_LIVE_CHOICE(name, variable, words, help) \
  read_choice(settings.name, Row::name, environment, variable, words);
#define PROFAGENT_TEXT(name, variable, help) read_text(settings.name, Row::name, environment, variable);
#include "agent/safe/settings.def"
#undef PROFAGENT_NUMBER
#undef PROFAGENT_TEXT
}

void report_setting(const char* variable, const char* value) noexcept {
  if (problem_count == kMaxSettingProblems) return;
  problems[problem_count++] = {variable, copy(value)};
}

bool was_set(std::string_view variable_name) noexcept {
#define PROFAGENT_NUMBER(name, variable, initial, minimum, maximum, help) \
  if (variable_name == (variable)) return given[static_cast<std::size_t>(Row::name)];
#define PROFAGENT_TEXT(name, variable, help) \
  if (variable_name == (variable)) return given[static_cast<std::size_t>(Row::name)];
#include "agent/safe/settings.def"
#undef PROFAGENT_NUMBER
#undef PROFAGENT_TEXT
  return false;
}

ChangeResult can_change(std::string_view setting_name, std::int64_t value, Bounds& bounds) noexcept {
  struct Rule {
    std::string_view name;
    bool is_live;
    Bounds bounds;
  };
  static constexpr Rule kRules[] = {
#define PROFAGENT_LIVE_NUMBER(name, variable, initial, minimum, maximum, help) \
  {#name, true, {minimum, maximum}},
#define PROFAGENT_NUMBER(name, variable, initial, minimum, maximum, help) {#name, false, {}},
#define PROFAGENT_TEXT(name, variable, help) {#name, false, {}},
#include "agent/safe/settings.def"
#undef PROFAGENT_NUMBER
#undef PROFAGENT_TEXT
  };
  for (const Rule& rule : kRules) {
    if (rule.name != setting_name) continue;
    if (!rule.is_live) return ChangeResult::kNotLive;
    bounds = rule.bounds;
    return value < bounds.minimum || value > bounds.maximum ? ChangeResult::kOutOfBounds
                                                            : ChangeResult::kDone;
  }
  return ChangeResult::kUnknown;
}

std::string_view choices_of(std::string_view setting_name) noexcept {
#define PROFAGENT_LIVE_CHOICE(name, variable, words, help) \
  if (setting_name == #name) return words;
#define PROFAGENT_NUMBER(name, variable, initial, minimum, maximum, help)
#define PROFAGENT_TEXT(name, variable, help)
#include "agent/safe/settings.def"
#undef PROFAGENT_NUMBER
#undef PROFAGENT_TEXT
  return {};
}

void change(std::string_view setting_name, std::int64_t value) noexcept {
#define PROFAGENT_LIVE_NUMBER(name, variable, initial, minimum, maximum, help)           \
  if (setting_name == #name) {                                                           \
    settings.name.store(value, std::memory_order_relaxed);                               \
    changed[static_cast<std::size_t>(Row::name)].store(true, std::memory_order_relaxed); \
  }
#define PROFAGENT_NUMBER(name, variable, initial, minimum, maximum, help)
#define PROFAGENT_TEXT(name, variable, help)
#include "agent/safe/settings.def"
#undef PROFAGENT_NUMBER
#undef PROFAGENT_TEXT
}

bool was_changed(std::string_view variable_name) noexcept {
#define PROFAGENT_NUMBER(name, variable, initial, minimum, maximum, help) \
  if (variable_name == (variable))                                        \
    return changed[static_cast<std::size_t>(Row::name)].load(std::memory_order_relaxed);
#define PROFAGENT_TEXT(name, variable, help)
#include "agent/safe/settings.def"
#undef PROFAGENT_NUMBER
#undef PROFAGENT_TEXT
  return false;
}

std::size_t setting_problem_count() noexcept {
  return problem_count;
}

const SettingProblem& setting_problem(std::size_t index) noexcept {
  return problems[index];
}

}  // namespace profagent::safe
