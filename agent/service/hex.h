// Addresses and distances as people read them.
#pragma once

#include <charconv>
#include <cstdint>
#include <iterator>
#include <string>

namespace profagent::service {

// "0x1f"
[[nodiscard]] inline std::string hex(std::uint64_t number) {
  constexpr int kBase = 16;
  char digits[2 * sizeof number];
  char* const begin = std::begin(digits);
  const char* const end = std::to_chars(begin, std::end(digits), number, kBase).ptr;
  return "0x" + std::string(begin, static_cast<std::size_t>(end - begin));
}

}  // namespace profagent::service
