#include "encoder/utf8.h"

#include <array>
#include <cstdint>

namespace profagent::encoder {
namespace {

std::uint8_t byte_at(std::string_view text, std::size_t index) {
  return static_cast<std::uint8_t>(text[index]);
}

// Bytes of the character that starts `text`, 0 when it is not valid. The limits of the second byte are what
// rules out overlong forms (E0, F0), surrogates (ED) and code points above U+10FFFF (F4).
std::size_t character_length(std::string_view text) {
  const std::uint8_t first = byte_at(text, 0);
  if (first < 0x80) return 1;
  std::size_t length = 0;
  std::uint8_t low = 0x80;
  std::uint8_t high = 0xbf;
  if (first >= 0xc2 && first <= 0xdf) {
    length = 2;
  } else if (first >= 0xe0 && first <= 0xef) {
    length = 3;
    if (first == 0xe0) low = 0xa0;
    if (first == 0xed) high = 0x9f;
  } else if (first >= 0xf0 && first <= 0xf4) {
    length = 4;
    if (first == 0xf0) low = 0x90;
    if (first == 0xf4) high = 0x8f;
  }
  if (length == 0 || text.size() < length) return 0;
  if (byte_at(text, 1) < low || byte_at(text, 1) > high) return 0;
  for (std::size_t i = 2; i < length; ++i) {
    if ((byte_at(text, i) & 0xc0) != 0x80) return 0;
  }
  return length;
}

bool is_control(char c) {
  return static_cast<std::uint8_t>(c) < 0x20 || c == 0x7f;
}

}  // namespace

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string to_utf8(std::string_view text, std::size_t max_bytes, Controls controls) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string result;
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    const bool escape = length == 0 || (controls == Controls::kEscape && is_control(text.front()));
    const std::uint8_t value = byte_at(text, 0);
    const std::array<char, 4> escaped = {'\\', 'x', kDigits[value >> 4U], kDigits[value & 0xfU]};
    const std::string_view piece =
        escape ? std::string_view(escaped.data(), escaped.size()) : text.substr(0, length);
    if (result.size() + piece.size() > max_bytes) break;
    result.append(piece);
    text.remove_prefix(escape ? 1 : length);
  }
  return result;
}

}  // namespace profagent::encoder
