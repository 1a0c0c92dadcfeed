#include "agent/service/query.h"

#include <algorithm>
#include <limits>

namespace profagent::service {

namespace {

constexpr int kNoDigit = 255;

int digit_value(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'z') return c - 'a' + 10;
  if (c >= 'A' && c <= 'Z') return c - 'A' + 10;
  return kNoDigit;
}

enum class Syntax { kGood, kBad, kOverflow };

struct Magnitude {
  Syntax syntax = Syntax::kBad;
  std::uint64_t value = 0;
};

enum class Underscores { kAreWrong, kSkip };

Magnitude parse_digits(std::string_view text, unsigned base, std::uint64_t limit,
                       Underscores underscores) noexcept {
  if (text.empty()) return {};
  Magnitude result{Syntax::kGood, 0};
  for (const char c : text) {
    if (c == '_' && underscores == Underscores::kSkip) continue;
    const int digit = digit_value(c);
    if (digit >= static_cast<int>(base)) return {};
    // A wrong character further on still makes it a syntax error, so an overflow does not end the loop.
    if (result.syntax == Syntax::kOverflow) continue;
    const auto add = static_cast<std::uint64_t>(digit);
    if (result.value > (limit - add) / base) {
      result = {Syntax::kOverflow, limit};
    } else {
      result.value = result.value * base + add;
    }
  }
  return result;
}

struct Signed {
  Syntax syntax = Syntax::kBad;
  std::int64_t value = 0;
};

Signed parse_signed(std::string_view text) noexcept {
  constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  const bool negative = !text.empty() && text.front() == '-';
  if (!text.empty() && (text.front() == '-' || text.front() == '+')) text.remove_prefix(1);
  const Magnitude magnitude = parse_digits(text, 10, negative ? kMax + 1 : kMax, Underscores::kAreWrong);
  if (magnitude.syntax == Syntax::kBad) return {};
  // Through unsigned arithmetic: -(2^63) has no positive counterpart.
  const std::uint64_t bits = negative ? 0 - magnitude.value : magnitude.value;
  return {magnitude.syntax, static_cast<std::int64_t>(bits)};
}

// '_' may stand between two digits, and between a base prefix and a digit.
bool underscores_are_placed_well(std::string_view digits, bool after_prefix) noexcept {
  bool digit_before = after_prefix;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (digits[i] != '_') {
      digit_before = true;
      continue;
    }
    const bool digit_behind = i + 1 < digits.size() && digits[i + 1] != '_';
    if (!digit_before || !digit_behind) return false;
    digit_before = false;
  }
  return true;
}

}  // namespace

Query::Query(std::string_view raw) {
  while (!raw.empty()) {
    const std::size_t end = raw.find('&');
    const std::string_view pair = raw.substr(0, end);
    raw = end == std::string_view::npos ? std::string_view() : raw.substr(end + 1);
    // Since Go 1.17 a semicolon is no separator, and what contains one is an error.
    if (pair.empty() || pair.find(';') != std::string_view::npos) continue;
    const std::size_t equals = pair.find('=');
    auto name = percent_decode(pair.substr(0, equals), Plus::kIsSpace);
    auto value = percent_decode(
        equals == std::string_view::npos ? std::string_view() : pair.substr(equals + 1), Plus::kIsSpace);
    if (name && value) pairs_.emplace_back(std::move(*name), std::move(*value));
  }
}

std::string_view Query::get(std::string_view name) const noexcept {
  for (const auto& [key, value] : pairs_) {
    if (key == name) return value;
  }
  return {};
}

std::optional<std::string> percent_decode(std::string_view text, Plus plus) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus == Plus::kIsSpace) {
      result.push_back(' ');
    } else if (text[i] != '%') {
      result.push_back(text[i]);
    } else {
      if (text.size() - i < 3) return std::nullopt;
      const int high = digit_value(text[i + 1]);
      const int low = digit_value(text[i + 2]);
      if (high > 15 || low > 15) return std::nullopt;
      result.push_back(static_cast<char>(high * 16 + low));
      i += 2;
    }
  }
  return result;
}

std::string clean_path(std::string_view path) {
  std::string clean;
  for (std::string_view rest = path; !rest.empty();) {
    const std::size_t end = std::min(rest.find('/'), rest.size());
    const std::string_view part = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (!clean.empty()) clean.erase(clean.rfind('/'));
      continue;
    }
    clean += '/';
    clean += part;
  }
  if (clean.empty() || path.ends_with('/')) clean += '/';
  return clean;
}

std::optional<std::int64_t> parse_int(std::string_view text) noexcept {
  const Signed parsed = parse_signed(text);
  if (parsed.syntax != Syntax::kGood) return std::nullopt;
  return parsed.value;
}

std::int64_t parse_int_or_zero(std::string_view text) noexcept {
  return parse_signed(text).value;
}

std::uint64_t parse_address_or_zero(std::string_view text) noexcept {
  unsigned base = 10;
  bool prefixed = false;
  if (!text.empty() && text[0] == '0') {
    const char kind = text.size() >= 3 ? static_cast<char>(text[1] | 0x20) : '\0';
    prefixed = true;
    base = kind == 'x' ? 16 : kind == 'b' ? 2 : 8;
    const bool has_letter = kind == 'x' || kind == 'b' || kind == 'o';
    text.remove_prefix(has_letter ? 2 : 1);
  }
  if (!underscores_are_placed_well(text, prefixed)) return 0;
  return parse_digits(text, base, std::numeric_limits<std::uint64_t>::max(), Underscores::kSkip).value;
}

}  // namespace profagent::service
