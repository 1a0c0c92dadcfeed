// What executable memory belongs to: the mappings of this moment, and the modules that were seen when samples
// were taken and are gone by now. A snapshot: immutable, built in a few milliseconds at most, on our thread
// only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/service/elf.h"

namespace profagent::service {

// Recorded by the ground floor when a module was first met in a sample. [start, end) is the whole object;
// a later record of the same addresses has a greater epoch.
struct SeenModule {
  std::uintptr_t start = 0;
  std::uintptr_t end = 0;
  const char* path = nullptr;
  std::span<const std::byte> build_id;
  std::uint32_t epoch = 0;
  std::uint64_t print = 0;  // see safe::image_print(); 0: not known
};

enum class ModuleKind : std::uint8_t {
  kFile,
  kVdso,       // [vdso], [vsyscall]: the kernel's
  kAnonymous,  // code made at run time
};

// One loaded ELF object; several mappings can belong to it.
struct Image {
  std::string path;      // without " (deleted)"; of the file as it was when mapped
  std::string build_id;  // of what runs, lower-case hex; empty when it has none
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uintptr_t header = 0;  // where the ELF header stands in memory; 0: nowhere
  std::uintptr_t bias = 0;    // only when header != 0
  std::vector<ElfSegment> segments;
  std::uint64_t print = 0;  // of what is not live any more
  bool main = false;
  bool live = false;

  // In whole pages, as the loader maps them.
  [[nodiscard]] bool holds(std::uintptr_t address) const noexcept;
};

inline constexpr std::uint32_t kNoImage = ~std::uint32_t{0};

// One executable mapping. start, limit and offset are page aligned and, for live ones, as the kernel reports
// them.
struct Module {
  std::uintptr_t start = 0;
  std::uintptr_t limit = 0;
  std::uint64_t offset = 0;
  ModuleKind kind = ModuleKind::kAnonymous;
  std::uint32_t image = kNoImage;  // index into ModuleSet::images()
  std::string path = {};           // what a profile shows: the file, "[vdso]", "[jit]"
  std::string build_id = {};
};

struct ModuleSources {
  const char* maps_path = "/proc/thread-self/maps";
  // The program's own file, remembered at load: for when /proc is missing.
  std::string_view main_path;
};

class ModuleSet {
 public:
  // Never fails: without /proc the loader's own list serves.
  static ModuleSet now(std::span<const SeenModule> seen, const ModuleSources& sources = {});

  // The main executable first, then the live ones by address, then the remembered ones.
  [[nodiscard]] std::span<const Module> modules() const noexcept { return modules_; }
  [[nodiscard]] std::span<const Image> images() const noexcept { return images_; }

  // The module of a pc; null outside of everything. A live mapping wins over a remembered one, unless the
  // newest record of that address is of another module: then the sample was taken before the change.
  [[nodiscard]] const Module* find(std::uintptr_t pc) const noexcept;

  // The image of a module; null for anonymous code.
  [[nodiscard]] const Image* image_of(const Module& module) const noexcept;
  // The link-time address of a pc inside `module`.
  [[nodiscard]] std::optional<std::uint64_t> address_in_image(const Module& module, std::uintptr_t pc) const;

 private:
  friend class ModuleSetBuilder;

  struct Range {
    std::uintptr_t start;
    std::uintptr_t limit;
    std::uint32_t module;
  };
  std::vector<Image> images_;
  std::vector<Module> modules_;
  std::vector<Range> ranges_;  // by address, disjoint
};

}  // namespace profagent::service
