// What Go's r.FormValue, strconv.ParseInt, strconv.Atoi and path.Clean would make of a request's target.
// Clients were written against those rules, so the odd corners count: the first value wins, an empty value is
// an absent one, a pair with ';' in it is dropped. Pure functions on text; nothing here throws but
// std::bad_alloc.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace profagent::service {

class Query {
 public:
  explicit Query(std::string_view raw);

  // The first value of `name`; empty when it is absent, empty or could not be decoded.
  [[nodiscard]] std::string_view get(std::string_view name) const noexcept;

 private:
  std::vector<std::pair<std::string, std::string>> pairs_;
};

// Undoes %XX, and '+' where it stands for a space (queries, not paths). nullopt: an incomplete or wrong
// escape.
enum class Plus { kIsSpace, kIsPlus };
[[nodiscard]] std::optional<std::string> percent_decode(std::string_view text, Plus plus);

// path.Clean, but for a slash at the end, which stays: no empty parts, no "." and "..". What does not begin
// with a slash gets one.
[[nodiscard]] std::string clean_path(std::string_view path);

// strconv.ParseInt(text, 10, 64): a sign and digits, nothing else, no overflow.
[[nodiscard]] std::optional<std::int64_t> parse_int(std::string_view text) noexcept;

// strconv.Atoi with its error ignored, as Go's handlers read `debug` and `gc`: 0 for what is no number, the
// nearest bound for what is too large.
[[nodiscard]] std::int64_t parse_int_or_zero(std::string_view text) noexcept;

// strconv.ParseUint(text, 0, 64) with its error ignored: 0x, 0b, 0o and 0 prefixes, '_' between digits.
// 0 for what is no number.
[[nodiscard]] std::uint64_t parse_address_or_zero(std::string_view text) noexcept;

}  // namespace profagent::service
