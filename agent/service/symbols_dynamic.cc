// The dynamic symbol table as the loader finds it: without section headers, from the dynamic segment. Serves
// files whose section headers were cut off, the vdso, and libraries whose file is gone.
#include <algorithm>
#include <array>

#include <elf.h>

#include "agent/service/symbols_table.h"

namespace profagent::service {

namespace {

constexpr std::size_t kMaxEntries = 1024;
constexpr std::uint32_t kMaxSymbols = 4'000'000;

struct DynamicEntries {
  std::uint64_t symbols = 0;
  std::uint64_t names = 0;
  std::uint64_t names_size = 0;
  std::uint64_t hash = 0;
  std::uint64_t gnu_hash = 0;
};

DynamicEntries read_entries(const Bytes& image, const ElfSegment& dynamic) {
  DynamicEntries entries;
  const std::size_t count = std::min<std::uint64_t>(dynamic.memory_size / sizeof(Elf64_Dyn), kMaxEntries);
  for (std::size_t i = 0; i < count; ++i) {
    const auto entry = image.get<Elf64_Dyn>(dynamic.address + i * sizeof(Elf64_Dyn));
    if (!entry || entry->d_tag == DT_NULL) break;
    switch (entry->d_tag) {
      case DT_SYMTAB:
        entries.symbols = entry->d_un.d_ptr;
        break;
      case DT_STRTAB:
        entries.names = entry->d_un.d_ptr;
        break;
      case DT_STRSZ:
        entries.names_size = entry->d_un.d_val;
        break;
      case DT_HASH:
        entries.hash = entry->d_un.d_ptr;
        break;
      case DT_GNU_HASH:
        entries.gnu_hash = entry->d_un.d_ptr;
        break;
      default:
        break;
    }
  }
  return entries;
}

// Only a hash table tells how many symbols there are: here one past the greatest index of any chain.
std::uint32_t count_by_gnu_hash(const Bytes& image, std::uint64_t table) {
  struct Header {
    std::uint32_t buckets, first_symbol, bloom_words, bloom_shift;
  };
  const auto header = image.get<Header>(table);
  if (!header || header->buckets > kMaxSymbols || header->bloom_words > kMaxSymbols) return 0;
  const std::uint64_t buckets = table + sizeof(Header) + std::uint64_t{header->bloom_words} * 8;
  const std::uint64_t chains = buckets + std::uint64_t{header->buckets} * 4;

  std::uint32_t last = 0;
  std::array<std::uint32_t, 1024> block;
  for (std::uint32_t i = 0; i < header->buckets; i += block.size()) {
    const auto part = std::span(block).first(std::min<std::size_t>(block.size(), header->buckets - i));
    if (image.read(buckets + std::uint64_t{i} * 4, std::as_writable_bytes(part)) != part.size_bytes())
      return 0;
    last = std::max(last, *std::max_element(part.begin(), part.end()));
  }
  if (last < header->first_symbol) return header->first_symbol;
  // The lowest bit marks the end of a chain.
  for (; last < kMaxSymbols; ++last) {
    const auto chain = image.get<std::uint32_t>(chains + std::uint64_t{last - header->first_symbol} * 4);
    if (!chain) return 0;
    if ((*chain & 1) != 0) return last + 1;
  }
  return 0;
}

}  // namespace

SymbolTable table_of_dynamic(const Bytes& image, std::span<const ElfSegment> segments, std::uint64_t bias) {
  const auto dynamic = std::find_if(segments.begin(), segments.end(),
                                    [](const ElfSegment& segment) { return segment.type == PT_DYNAMIC; });
  if (dynamic == segments.end()) return {};
  const DynamicEntries entries = read_entries(image, *dynamic);

  // The loader of glibc replaces link-time by run-time addresses in place, except where it cannot write
  // (vdso).
  const auto link_time = [&](std::uint64_t address) {
    const bool inside = std::any_of(segments.begin(), segments.end(), [&](const ElfSegment& segment) {
      return segment.type == PT_LOAD && segment.holds_address(address);
    });
    return inside ? address : address - bias;
  };
  SymbolTable table{.bytes = &image,
                    .symbols = link_time(entries.symbols),
                    .names = link_time(entries.names),
                    .names_size = entries.names_size};
  if (entries.symbols == 0 || entries.names == 0) return {};
  if (entries.hash != 0) {
    // nbucket, nchain; nchain is the number of symbols.
    if (const auto header = image.get<std::array<std::uint32_t, 2>>(link_time(entries.hash))) {
      table.count = std::min((*header)[1], kMaxSymbols);
    }
  }
  if (table.count == 0 && entries.gnu_hash != 0)
    table.count = count_by_gnu_hash(image, link_time(entries.gnu_hash));
  return table;
}

}  // namespace profagent::service
