#include "agent/service/demangle.h"

#include <algorithm>

#include "agent/service/demangle_parts.h"

namespace profagent::service {

namespace {

// No compiler writes control characters; the reader of C strings would stop at 0, and two serve as marks.
bool is_plain(std::string_view name) {
  return std::none_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < ' '; });
}

// Empty when it cannot be read.
std::string read(const std::string& name, DemangleStyle style) {
  if (!name.starts_with("_Z") && !name.starts_with("_R")) return {};
  // Rust's first scheme is C++'s with a hash at the end.
  if (std::string rust = demangle_rust(name, style); !rust.empty()) return rust;
  return name.starts_with("_Z") ? demangle_cplus(name, style) : std::string();
}

}  // namespace

std::string demangle(std::string_view linker_name, DemangleStyle style) {
  std::string name(linker_name);
  if (style == DemangleStyle::kNone || name.size() > kMaxMangled || !is_plain(name)) return name;
  try {
    std::string readable = read(name, style);
    return readable.empty() || readable.size() > kMaxDemangled ? name : readable;
  } catch (const DemangledTooLong&) {
    return name;
  }
}

void DemangledText::append(const char* piece, std::size_t length, void* self) {
  std::string& text = static_cast<DemangledText*>(self)->text_;
  const bool is_ascii =
      std::all_of(piece, piece + length, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  if (text.size() > (is_ascii ? kMaxWritten : 2 * kMaxWritten)) throw DemangledTooLong();
  text.append(piece, length);
}

}  // namespace profagent::service
