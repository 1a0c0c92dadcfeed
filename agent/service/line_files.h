// Which file has the DWARF of an image.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "agent/service/elf.h"
#include "agent/service/modules.h"

namespace profagent::service {

struct LineFile {
  std::unique_ptr<FileBytes> file;  // null: there is none
  std::string path;                 // what it refers to is looked for from there
};

// The image's own file, if it still is what runs, or its separate debug file.
[[nodiscard]] LineFile find_line_file(const Image& image, std::string_view debug_root);

}  // namespace profagent::service
