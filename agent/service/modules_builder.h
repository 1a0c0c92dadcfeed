// Builds a ModuleSet from what the kernel, the loader and the recorders know. Used by modules.cc and tests
// only.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/service/maps.h"
#include "agent/service/modules.h"

namespace profagent::service {

class ModuleSetBuilder {
 public:
  // The lines of maps, in their order. Only runs of lines with executable memory are kept.
  void add(const Mapping& mapping);
  // Instead of maps: the loader's list.
  void add_loaded_objects(std::string_view main_path);
  // After the live ones.
  void remember(std::span<const SeenModule> seen);
  ModuleSet take();

 private:
  struct Piece {
    std::uintptr_t start = 0;
    std::uintptr_t limit = 0;
    std::uint64_t offset = 0;
    bool executable = false;
    bool anonymous = false;
  };
  // Consecutive mappings of one file, with the anonymous code that stands among them.
  struct Run {
    std::string path;
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::vector<Piece> pieces = {};
  };

  void finish_run();
  void add_piece(const Piece& piece, std::uint32_t image);
  void add_code_of_image(const Piece& piece, std::uint32_t image);
  void add_kernel_code(const Mapping& mapping);
  std::uint32_t add_image(const Run& run, const Piece& first);
  void add_module(Module module) { set_.modules_.push_back(std::move(module)); }
  void finish_live();
  void mark_main();
  void remember_one(const SeenModule& seen);
  bool is_live(const SeenModule& seen, const std::string& build_id);
  void paint(std::uintptr_t start, std::uintptr_t limit, std::uint32_t module);

  static int on_loaded_object(void* info, std::size_t size, void* builder);

  ModuleSet set_;
  Run run_;
  std::string_view main_path_;
};

}  // namespace profagent::service
