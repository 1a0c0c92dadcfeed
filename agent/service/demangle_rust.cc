// Rust's names through libiberty: v0 (_R...) and the first scheme (_ZN...17h<hash>E, shown without the hash).
#include <libiberty/demangle.h>

#include <algorithm>
#include <string_view>

#include "agent/service/demangle_parts.h"

namespace profagent::service {

namespace {

// In front of generic arguments stands a name or ::, in front of <Type as Trait> neither, and for<'a>
// declares lifetimes.
bool opens_generic_arguments(std::string_view before) {
  static constexpr std::string_view kNotInNames = " (<[&";
  if (before.empty() || kNotInNames.find(before.back()) != std::string_view::npos) return false;
  if (!before.ends_with("for")) return true;
  before.remove_suffix(3);
  return !before.empty() && kNotInNames.find(before.back()) == std::string_view::npos;
}

// The length of a character in quotes at the front; 0 for a lifetime.
std::size_t quoted(std::string_view text) {
  const bool is_escape = text.size() > 2 && text[1] == '\\';
  const std::size_t end = text.find('\'', is_escape ? 3 : 2);
  return end != std::string_view::npos && (is_escape || end == 2) ? end + 1 : 0;
}

// Where the > is that belongs to the < in front of `text`.
std::size_t end_of_arguments(std::string_view text) {
  std::size_t depth = 1;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i).starts_with("->")) {
      ++i;
    } else if (text[i] == '<') {
      ++depth;
    } else if (text[i] == '>' && --depth == 0) {
      return i;
    } else if (text[i] == '\'') {
      i += std::max<std::size_t>(quoted(text.substr(i)), 1) - 1;
    }
  }
  return text.size();
}

// google/pprof leaves the brackets: std::mem::align_of::<>.
std::string without_generic_arguments(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool is_list = text[i] == '<' && opens_generic_arguments(result);
    result += text[i];
    if (is_list) i += end_of_arguments(text.substr(i + 1));
  }
  return result;
}

}  // namespace

std::string demangle_rust(const std::string& name, DemangleStyle style) {
  DemangledText text;
  if (rust_demangle_callback(name.c_str(), DMGL_NO_OPTS, DemangledText::append, &text) == 0) return {};
  const bool is_v0 = name.starts_with("_R");
  return is_v0 && style == DemangleStyle::kDefault ? without_generic_arguments(text.take()) : text.take();
}

}  // namespace profagent::service
