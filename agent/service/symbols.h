// Names addresses: the function, its linker name, and where it begins. On our thread only.
//
// Reads ELF symbol tables in blocks, so even a program of 100 MB costs less than 1 MiB of our own memory
// while a request lasts. What was found, and that nothing was found, is remembered by the identity of the
// module: asking again reads no file. The memory is bounded (kMaxCached addresses, then all is forgotten) and
// clear() gives it back.
//
// Code made at run time is named when its maker tells (perf_map.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/service/debug_files.h"
#include "agent/service/modules.h"
#include "agent/service/perf_map.h"
#include "agent/service/symbol.h"
#include "agent/service/symbols_table.h"

namespace profagent::service {

struct ResolvedPc {
  std::shared_ptr<const Symbol> symbol;  // never null
  std::uintptr_t start = 0;              // of the function; 0: unknown
  const Module* module = nullptr;        // null: outside of everything; lives as long as the ModuleSet
  bool found = false;                    // false: the symbol is a placeholder
};

class Symbolizer {
 public:
  static constexpr std::size_t kMaxCached = 65536;

  explicit Symbolizer(std::string_view debug_root = kDebugRoot) : debug_root_(debug_root) {}

  // One answer for each of `pcs`, in their order: the module and a placeholder. Reads no file.
  [[nodiscard]] std::vector<ResolvedPc> place(const ModuleSet& modules, std::span<const std::uintptr_t> pcs);

  // The same with names. Fastest, in one pass over each file, when all
  // addresses of a request come in one call; any order, repetitions allowed.
  [[nodiscard]] std::vector<ResolvedPc> resolve(const ModuleSet& modules,
                                                std::span<const std::uintptr_t> pcs);

  // The program's global variables at `addresses`, by name, with the distance from the begin of one, as in
  // "pool+0x28"; empty where there is none, as on the heap.
  [[nodiscard]] std::vector<std::string> name_variables(const ModuleSet& modules,
                                                        std::span<const std::uintptr_t> addresses);

  void clear() noexcept;

  // Why the last resolve() left out names that there might be, in one sentence; else empty.
  [[nodiscard]] const std::string& problem() const noexcept { return run_time_code_.problem(); }

  // Files opened so far: a second request must not add any.
  [[nodiscard]] std::uint64_t files_opened() const noexcept { return files_opened_; }
  [[nodiscard]] std::size_t cached() const noexcept { return cached_; }

 private:
  struct Entry {
    std::shared_ptr<const Symbol> symbol;  // null: this address has no name
    std::uint64_t start = 0;
  };
  struct ImageCache {
    std::unordered_map<std::uint64_t, Entry> by_address;
    std::unordered_map<std::uint64_t, std::shared_ptr<const Symbol>> by_start;
  };
  // Addresses of one image that are not cached, and how far its sources have named them.
  struct Search {
    std::vector<std::uint64_t> addresses;  // ascending, still without a name
    ImageCache& cache;
    SymbolUse use;
  };
  struct Wanted {
    std::size_t index;  // in the caller's list
    std::uint64_t address;
  };

  ImageCache& name_wanted(const Image& image, std::span<const Wanted> wanted, SymbolUse use);
  void name_addresses(const Image& image, Search search);
  void search_file(const Image& image, const FileBytes& file, Search& search);
  void search_separate_files(const Image& image, const Bytes* file, std::span<const ElfSection> sections,
                             Search& search);
  static void search_table(const SymbolTable& table, std::span<const ElfSection> sections, Search& search);
  std::shared_ptr<const Symbol> placeholder(const Module* module);

  void name_run_time_code(std::span<const std::uintptr_t> pcs, std::span<ResolvedPc> results);

  std::string debug_root_;
  PerfMap run_time_code_;
  std::map<std::string, ImageCache> images_;
  std::map<std::string, std::shared_ptr<const Symbol>, std::less<>> placeholders_;
  std::size_t cached_ = 0;
  std::uint64_t files_opened_ = 0;
};

}  // namespace profagent::service
