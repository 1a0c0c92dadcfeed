// Any bytes as an ELF file: build id, symbols by sections and by the dynamic segment, mini debug information,
// debug link.
#include <cstddef>
#include <cstdint>
#include <vector>

#include <elf.h>

#include "agent/service/build_id.h"
#include "agent/service/debug_files.h"
#include "agent/service/symbols_table.h"

using namespace profagent::service;

namespace {

void search(const SymbolTable& table, const std::vector<ElfSection>& sections) {
  if (table.count == 0) return;
  std::vector<std::uint64_t> addresses;
  for (std::uint64_t address = 0; address < 0x4000; address += 61) addresses.push_back(address);
  for (const SymbolMatch& match : find_symbols(table, sections, addresses)) {
    if (match.name != kNoName) static_cast<void>(symbol_name(table, match.name));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto* const bytes = reinterpret_cast<const std::byte*>(data);
  const BufferBytes file({bytes, bytes + size});
  const auto segments = read_segments(file);
  const auto sections = read_sections(file);
  Image image;
  image.path = "/nonexistent/lib.so";
  image.build_id = build_id_of_file(file, segments, sections);
  search(table_of_section(file, sections, SHT_SYMTAB), sections);
  search(table_of_section(file, sections, SHT_DYNSYM), sections);
  const LoadedBytes loaded(file, segments);
  search(table_of_dynamic(loaded, segments, 0), {});
  static_cast<void>(build_id_of_image(loaded, segments));
  static_cast<void>(read_mini_debug_info(file, sections));
  static_cast<void>(open_debug_file(image, &file, sections, "/nonexistent"));
  return 0;
}
