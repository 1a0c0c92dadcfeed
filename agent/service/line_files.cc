#include "agent/service/line_files.h"

#include <elf.h>

#include "agent/service/debug_files.h"

namespace profagent::service {

namespace {

bool has_lines(const FileBytes& file, std::span<const ElfSection> sections) {
  // The second is how they were compressed before ELF knew of it.
  for (const std::string_view name : {".debug_info", ".zdebug_info"}) {
    const ElfSection* const section = find_section(file, sections, name);
    if (section != nullptr && section->type != SHT_NOBITS) return true;
  }
  return false;
}

}  // namespace

LineFile find_line_file(const Image& image, std::string_view debug_root) {
  LineFile own{.file = open_running_file(image), .path = image.path};
  std::vector<ElfSection> sections;
  if (own.file) {
    sections = read_sections(*own.file);
    if (has_lines(*own.file, sections)) return own;
  }
  LineFile debug{.file = open_debug_file(image, own.file.get(), sections, debug_root), .path = {}};
  if (debug.file && !has_lines(*debug.file, read_sections(*debug.file))) debug.file.reset();
  if (debug.file) debug.path = debug.file->path();
  return debug;
}

}  // namespace profagent::service
