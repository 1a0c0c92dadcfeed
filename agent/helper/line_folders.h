// In DWARF 5 a line table names folders relative to the first one, the compiler's working folder;
// libbacktrace takes them as they are. Here the two are joined in what it reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace profagent::helper {

struct LineSections {
  std::vector<std::byte> lines;  // .debug_line
  std::string texts;             // .debug_line_str
};

// Copies of both sections with folders that are not relative to others. What cannot be understood stays as it
// is.
[[nodiscard]] LineSections with_joined_folders(std::span<const std::byte> lines, std::string_view texts);

}  // namespace profagent::helper
