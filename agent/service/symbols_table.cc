#include "agent/service/symbols_table.h"

#include <algorithm>
#include <array>
#include <memory>
#include <tuple>
#include <utility>

#include <elf.h>

namespace profagent::service {

namespace {

constexpr std::size_t kBlock = 65536 / sizeof(Elf64_Sym);
constexpr std::size_t kMaxName = 65536;
// Comparisons of one search: a damaged table can claim that every symbol holds every address.
constexpr std::size_t kMaxWork = 50'000'000;

struct Candidate {
  std::uint64_t start = 0;
  std::uint64_t size = 0;
  std::uint32_t name = kNoName;
  std::uint16_t section = 0;
  std::uint8_t rank = 0;  // smaller is better
  bool is_weak = false;
};

std::uint8_t rank_of(const Elf64_Sym& symbol) {
  constexpr std::uint8_t kLabel = 2;
  const unsigned binding = ELF64_ST_BIND(symbol.st_info);
  const std::uint8_t by_binding = binding == STB_LOCAL ? 1 : 0;
  return ELF64_ST_TYPE(symbol.st_info) == STT_NOTYPE ? by_binding + kLabel : by_binding;
}

class Search {
 public:
  Search(const SymbolTable& table, std::span<const ElfSection> sections,
         std::span<const std::uint64_t> addresses, SymbolUse use)
      : table_(table), sections_(sections), addresses_(addresses), use_(use), holding_(addresses.size()) {
    if (use == SymbolUse::kFunction && table.complete && !sections.empty())
      preceding_.resize(addresses.size());
  }

  std::vector<SymbolMatch> run() {
    const auto block = std::make_unique<Elf64_Sym[]>(kBlock);
    for (std::uint64_t at = 0; at < table_.count && work_ < kMaxWork;) {
      const std::size_t want = std::min<std::uint64_t>(kBlock, table_.count - at);
      const std::size_t bytes = table_.bytes->read(table_.symbols + at * sizeof(Elf64_Sym),
                                                   std::as_writable_bytes(std::span(block.get(), want)));
      const std::size_t got = bytes / sizeof(Elf64_Sym);
      for (std::size_t i = 0; i < got; ++i) visit(block[i]);
      if (got < want) break;
      at += got;
    }
    return result();
  }

 private:
  void visit(const Elf64_Sym& symbol) {
    const unsigned type = ELF64_ST_TYPE(symbol.st_info);
    const bool is_function = type == STT_FUNC || type == STT_GNU_IFUNC || type == STT_NOTYPE;
    if (use_ == SymbolUse::kFunction ? !is_function : type != STT_OBJECT) return;
    if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx == SHN_ABS || symbol.st_shndx == SHN_COMMON) return;
    if (symbol.st_name == 0 || symbol.st_name >= table_.names_size) return;
    if (type == STT_NOTYPE && symbol.st_size == 0 && preceding_.empty()) return;
    if (is_function && symbol.st_shndx < sections_.size() && !sections_[symbol.st_shndx].executable()) return;

    const Candidate candidate{.start = symbol.st_value,
                              .size = symbol.st_size,
                              .name = symbol.st_name,
                              .section = symbol.st_shndx,
                              .rank = rank_of(symbol),
                              .is_weak = ELF64_ST_BIND(symbol.st_info) == STB_WEAK};
    const auto first = std::lower_bound(addresses_.begin(), addresses_.end(), symbol.st_value);
    if (first == addresses_.end()) return;
    auto index = static_cast<std::size_t>(first - addresses_.begin());
    if (!preceding_.empty()) offer(preceding_[index], candidate);
    for (; index < addresses_.size() && addresses_[index] - symbol.st_value < symbol.st_size; ++index) {
      offer(holding_[index], candidate);
      ++work_;
    }
  }

  void offer(Candidate& best, const Candidate& other) {
    if (best.name == kNoName || better(other, best)) best = other;
  }

  bool better(const Candidate& a, const Candidate& b) {
    if (a.start != b.start) return a.start > b.start;
    // A size of 0 means unknown, so as a rule longer than a known one, see `preceding_`.
    if (a.size != b.size) return a.size != 0 && (b.size == 0 || a.size < b.size);
    if (a.rank != b.rank) return a.rank < b.rank;
    return has_better_name(a, b);
  }

  bool has_better_name(const Candidate& a, const Candidate& b) {
    if (a.name == b.name) return false;
    // Aliases come up once for every address in their function.
    if (a.name != last_a_ || b.name != last_b_) {
      const auto order = [&](const Candidate& candidate) {
        std::string name = symbol_name(table_, candidate.name);
        const std::size_t underscores = std::min(name.find_first_not_of('_'), name.size());
        return std::tuple(underscores, candidate.is_weak, name.size(), std::move(name));
      };
      last_answer_ = order(a) < order(b);
      last_a_ = a.name;
      last_b_ = b.name;
    }
    return last_answer_;
  }

  std::vector<SymbolMatch> result() {
    std::vector<SymbolMatch> matches(addresses_.size());
    Candidate nearest;
    for (std::size_t i = 0; i < addresses_.size(); ++i) {
      if (!preceding_.empty() && preceding_[i].name != kNoName) nearest = preceding_[i];
      const Candidate* chosen = &holding_[i];
      if (chosen->name == kNoName && nearest.name != kNoName && nearest.size == 0 &&
          nearest.section < sections_.size() && sections_[nearest.section].holds_address(addresses_[i]) &&
          sections_[nearest.section].holds_address(nearest.start)) {
        chosen = &nearest;
      }
      matches[i] = {.start = chosen->start, .name = chosen->name};
    }
    return matches;
  }

  const SymbolTable& table_;
  std::span<const ElfSection> sections_;
  std::span<const std::uint64_t> addresses_;
  SymbolUse use_;
  std::vector<Candidate> holding_;
  // The last symbol in front of addresses_[i] that does not lie in front of addresses_[i - 1] too.
  std::vector<Candidate> preceding_;
  std::size_t work_ = 0;
  std::uint32_t last_a_ = kNoName;
  std::uint32_t last_b_ = kNoName;
  bool last_answer_ = false;
};

}  // namespace

std::vector<SymbolMatch> find_symbols(const SymbolTable& table, std::span<const ElfSection> sections,
                                      std::span<const std::uint64_t> addresses, SymbolUse use) {
  return Search(table, sections, addresses, use).run();
}

std::string symbol_name(const SymbolTable& table, std::uint32_t offset) {
  if (offset >= table.names_size) return {};
  std::string name =
      table.bytes->text(table.names + offset, std::min<std::uint64_t>(kMaxName, table.names_size - offset));
  // A name may begin with '@', a version follows a name.
  if (const std::size_t version = name.find('@', 1); version != std::string::npos) name.resize(version);
  return name;
}

SymbolTable table_of_section(const Bytes& file, std::span<const ElfSection> sections, std::uint32_t type) {
  const ElfSection* const symbols = find_section(sections, type);
  if (symbols == nullptr || symbols->link >= sections.size()) return {};
  const ElfSection& names = sections[symbols->link];
  if (names.type != SHT_STRTAB) return {};
  return {.bytes = &file,
          .symbols = symbols->offset,
          .count = symbols->size / sizeof(Elf64_Sym),
          .names = names.offset,
          .names_size = names.size,
          .complete = type == SHT_SYMTAB};
}

}  // namespace profagent::service
