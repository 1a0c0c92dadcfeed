// Reads /proc/.../maps: the text of the kernel, line by line, without a limit on its size.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace profagent::service {

// One line. `path` is only valid while the visitor runs.
struct Mapping {
  std::uintptr_t start = 0;
  std::uintptr_t limit = 0;
  std::uint64_t offset = 0;
  std::uint64_t device = 0;  // as makedev() numbers it
  std::uint64_t inode = 0;
  bool readable = false;
  bool executable = false;
  bool deleted = false;   // the kernel wrote " (deleted)", which `path` no longer has
  std::string_view path;  // empty for anonymous memory; "[vdso]" and the like as the kernel writes them
};

using MappingVisitor = std::function<void(const Mapping&)>;

// Parses one line without its newline. `scratch` holds the path when it had to be unescaped.
// False when the text is not a line of maps.
bool parse_maps_line(std::string_view line, Mapping& mapping, std::string& scratch);

// Every well-formed line of `text`.
void parse_maps(std::string_view text, const MappingVisitor& visit);

// The calling thread's view, which unlike /proc/self stays complete when the main thread has ended.
inline constexpr char kMapsPath[] = "/proc/thread-self/maps";

// False when the file cannot be opened or is empty (no /proc).
bool read_maps(const MappingVisitor& visit, const char* path = kMapsPath);

}  // namespace profagent::service
