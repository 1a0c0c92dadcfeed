// Rust's first scheme borrows the C++ mangling of nested names, with a hash as the last component and its own
// spelling for what C++ identifiers cannot hold.
#include <algorithm>
#include <array>

#include "agent/service/demangle_parser.h"

namespace profagent::service {

namespace {

constexpr std::size_t kHashLength = 17;

bool is_hash(std::string_view component) {
  return component.size() == kHashLength && component.front() == 'h' &&
         std::all_of(component.begin() + 1, component.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

struct Escape {
  std::string_view code;
  std::string_view text;
};
constexpr std::array<Escape, 9> kEscapes = {{{"$SP$", "@"},
                                             {"$BP$", "*"},
                                             {"$RF$", "&"},
                                             {"$LT$", "<"},
                                             {"$GT$", ">"},
                                             {"$LP$", "("},
                                             {"$RP$", ")"},
                                             {"$C$", ","},
                                             {"..", "::"}}};

void append_utf8(std::string& out, unsigned code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xc0 | code >> 6);
    out += static_cast<char>(0x80 | (code & 63));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xe0 | code >> 12);
    out += static_cast<char>(0x80 | (code >> 6 & 63));
    out += static_cast<char>(0x80 | (code & 63));
  } else {
    out += static_cast<char>(0xf0 | (code >> 18 & 7));
    out += static_cast<char>(0x80 | (code >> 12 & 63));
    out += static_cast<char>(0x80 | (code >> 6 & 63));
    out += static_cast<char>(0x80 | (code & 63));
  }
}

// "$u7e$" at the front: a code point in hexadecimal.
bool take_code_point(std::string_view& text, std::string& out) {
  static constexpr std::size_t kMaxDigits = 6;
  if (!text.starts_with("$u")) return false;
  const std::size_t end = text.find('$', 2);
  if (end == std::string_view::npos || end == 2 || end - 2 > kMaxDigits) return false;
  unsigned code = 0;
  for (const char c : text.substr(2, end - 2)) {
    if (c >= '0' && c <= '9') {
      code = code * 16 + static_cast<unsigned>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      code = code * 16 + static_cast<unsigned>(c - 'a') + 10;
    } else {
      return false;
    }
  }
  append_utf8(out, code);
  text.remove_prefix(end + 1);
  return true;
}

std::string unescape(std::string_view text) {
  std::string out;
  // A component cannot begin with $, so an underscore was put in front.
  if (text.starts_with("_$")) text.remove_prefix(1);
  while (!text.empty()) {
    const auto escape = std::find_if(kEscapes.begin(), kEscapes.end(),
                                     [text](const Escape& each) { return text.starts_with(each.code); });
    if (escape != kEscapes.end()) {
      out += escape->text;
      text.remove_prefix(escape->code.size());
    } else if (!take_code_point(text, out)) {
      out += text.front();
      text.remove_prefix(1);
    }
  }
  return out;
}

}  // namespace

std::string demangle_rust_legacy(std::string_view name) {
  if (!name.starts_with("_ZN")) return {};
  name.remove_prefix(3);
  std::string result;
  std::string_view last;
  std::size_t count = 0;
  while (!name.empty() && name.front() != 'E') {
    std::size_t length = 0;
    std::size_t digits = 0;
    while (digits < name.size() && name[digits] >= '0' && name[digits] <= '9' && length < name.size()) {
      length = length * 10 + static_cast<std::size_t>(name[digits++] - '0');
    }
    name.remove_prefix(digits);
    if (length == 0 || length > name.size()) return {};
    if (count++ > 0) {
      if (count > 2) result += "::";
      result += unescape(last);
    }
    last = name.substr(0, length);
    name.remove_prefix(length);
  }
  // Clone suffixes follow the E.
  if (name.empty() || count < 2 || !is_hash(last)) return {};
  return result;
}

}  // namespace profagent::service
