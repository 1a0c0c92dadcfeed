// Finds which functions of one ELF symbol table hold a set of addresses. The table is streamed in blocks, so
// its size costs time (about 10 ns a symbol) and no memory.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "agent/service/elf.h"

namespace profagent::service {

// Where a table lies. The names may be in another place than the symbols.
struct SymbolTable {
  const Bytes* bytes = nullptr;
  std::uint64_t symbols = 0;  // offset in `bytes`
  std::uint64_t count = 0;
  std::uint64_t names = 0;  // offset in `bytes`
  std::uint64_t names_size = 0;
  // The table names every function (.symtab): then a symbol without a size, as assembly has, reaches up to
  // the next symbol of its section. In a partial table (.dynsym) that would name other people's code.
  bool complete = false;
};

inline constexpr std::uint32_t kNoName = ~std::uint32_t{0};

struct SymbolMatch {
  std::uint64_t start = 0;
  std::uint32_t name = kNoName;  // offset into the names
};

enum class SymbolUse : std::uint8_t { kFunction, kVariable };

// The functions, or variables, that hold `addresses` (ascending, link-time), one match for each. Of several
// symbols the same one is chosen whatever their order in the table: the innermost, a function before a label,
// exported before local, a name with fewer leading underscores, global before weak, the shorter name, the
// first. (libc's functions are weak under the names that programs use, and global under those that libc
// uses.) `sections` may be empty; then only symbols with a size are found.
[[nodiscard]] std::vector<SymbolMatch> find_symbols(const SymbolTable& table,
                                                    std::span<const ElfSection> sections,
                                                    std::span<const std::uint64_t> addresses,
                                                    SymbolUse use = SymbolUse::kFunction);

// The name at `offset`, without the version that linkers append (foo@@V_1). Empty when it is not there.
[[nodiscard]] std::string symbol_name(const SymbolTable& table, std::uint32_t offset);

// The tables of a file by its section headers, or of an image (read by link-time addresses) by its dynamic
// section. count == 0: there is none.
[[nodiscard]] SymbolTable table_of_section(const Bytes& file, std::span<const ElfSection> sections,
                                           std::uint32_t type);
[[nodiscard]] SymbolTable table_of_dynamic(const Bytes& image, std::span<const ElfSegment> segments,
                                           std::uint64_t bias);

}  // namespace profagent::service
