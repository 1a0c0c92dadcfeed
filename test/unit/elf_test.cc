// Damaged files: fewer answers, never a crash (run under the address sanitizer too).
#include "agent/service/elf.h"

#include <fstream>
#include <iterator>
#include <random>

#include <elf.h>

#include "agent/service/build_id.h"
#include "test/unit/symbols_victim.h"

using namespace profagent::service;
using namespace profagent::service::test;

namespace {

std::vector<std::byte> contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto* const begin = reinterpret_cast<const std::byte*>(text.data());
  return {begin, begin + text.size()};
}

// Everything that is ever read from a file; the number of symbols found.
std::size_t read_all(const Bytes& file) {
  const auto segments = read_segments(file);
  const auto sections = read_sections(file);
  std::vector<std::uint64_t> addresses;
  for (std::uint64_t address = 0; address < 0x3000; address += 7) addresses.push_back(address);
  std::size_t found = build_id_of_file(file, segments, sections).size();
  const auto count = [&](const SymbolTable& table) {
    if (table.count == 0) return;
    for (const SymbolMatch& match : find_symbols(table, sections, addresses)) {
      if (match.name != kNoName) found += symbol_name(table, match.name).size();
    }
  };
  count(table_of_section(file, sections, SHT_SYMTAB));
  count(table_of_section(file, sections, SHT_DYNSYM));
  const LoadedBytes loaded(file, segments);
  count(table_of_dynamic(loaded, segments, 0));
  found += read_mini_debug_info(file, sections) != nullptr;
  return found;
}

}  // namespace

TEST_CASE("a whole file is read") {
  const BufferBytes file(contents(victim_path("libsymbols_lib.so")));
  CHECK(read_all(file) > 100);
  const auto segments = read_segments(file);
  CHECK(build_id_of_file(file, segments, {}) == build_id_by_readelf(victim_path("libsymbols_lib.so")));
  CHECK(build_id_of_file(file, {}, read_sections(file)) ==
        build_id_by_readelf(victim_path("libsymbols_lib.so")));
}

TEST_CASE("a file cut anywhere") {
  const auto bytes = contents(victim_path("libsymbols_lib.so"));
  std::size_t least = ~std::size_t{0};
  for (std::size_t size = 0; size < bytes.size(); size += size < 1024 ? 1 : 61) {
    least = std::min(
        least, read_all(BufferBytes({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)})));
  }
  CHECK(least == 0);
}

TEST_CASE("a file with damaged headers") {
  const auto bytes = contents(victim_path("libsymbols_lib.so"));
  std::mt19937 random(7);
  for (int round = 0; round < 2'000; ++round) {
    auto damaged = bytes;
    for (int i = 0; i < 6; ++i) {
      // The headers of the file and its segments; those of the sections are at the end.
      const std::size_t at = round % 2 == 0 ? random() % 1024 : damaged.size() - 1 - random() % 2048;
      damaged[at] = static_cast<std::byte>(random());
    }
    static_cast<void>(read_all(BufferBytes(std::move(damaged))));
  }
  SUCCEED();
}

TEST_CASE("other machines' files are refused") {
  const auto bytes = contents(victim_path("libsymbols_lib.so"));
  const auto changed = [&](std::size_t at, unsigned char value) {
    auto copy = bytes;
    copy[at] = static_cast<std::byte>(value);
    const BufferBytes file(std::move(copy));
    return read_segments(file).size() + read_sections(file).size();
  };
  CHECK(changed(EI_CLASS, ELFCLASS64) > 0);
  CHECK(changed(EI_CLASS, ELFCLASS32) == 0);
  CHECK(changed(EI_DATA, ELFDATA2MSB) == 0);
  CHECK(changed(EI_MAG0, 'X') == 0);
  CHECK(changed(offsetof(Elf64_Ehdr, e_machine), EM_AARCH64) == 0);
}

TEST_CASE("file offsets and addresses") {
  const std::vector<ElfSegment> segments = {
      {.type = PT_LOAD,
       .flags = PF_R,
       .offset = 0,
       .address = 0x400000,
       .file_size = 0x900,
       .memory_size = 0x900},
      {.type = PT_LOAD,
       .flags = PF_R | PF_X,
       .offset = 0x900,
       .address = 0x401900,
       .file_size = 0x700,
       .memory_size = 0x700},
      {.type = PT_NOTE, .offset = 0x2000, .address = 0x9000, .file_size = 0x100, .memory_size = 0x100}};
  CHECK(address_of_offset(segments, 0x8ff) == 0x4008ff);
  CHECK(address_of_offset(segments, 0x900) == 0x401900);
  CHECK(address_of_offset(segments, 0xfff) == 0x401fff);
  CHECK(address_of_offset(segments, 0x1000) == std::nullopt);
  CHECK(address_of_offset(segments, 0x2010) == std::nullopt);
  CHECK(load_bias(segments, 0x400000) == 0);
  CHECK(load_bias(segments, 0x7f0000000000) == 0x7f0000000000 - 0x400000);
}
