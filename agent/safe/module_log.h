// Remembers which module (executable or shared object) each sampled address belonged to when it was sampled,
// so that a profile can still name a library that has been unloaded. Written when a stack is first seen, any
// thread, signal handlers too: no loader lock (only _dl_find_object), bounded, append-only.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "agent/safe/types.h"

namespace profagent::safe {

struct SeenModule {
  static constexpr std::size_t kMaxBuildId = 32;
  std::uintptr_t start = 0;  // of the lowest mapped byte
  std::uintptr_t end = 0;
  const char* path = nullptr;  // a copy of ours; "" for the main executable
  std::uint32_t build_id_size = 0;
  std::byte build_id[kMaxBuildId] = {};
  std::uint64_t print = 0;  // see image_print(); 0: not known
  // The unload_count at which the module was last seen to be loaded.
  std::atomic<std::uint32_t> seen_at{0};
};

class ModuleLog {
 public:
  static constexpr std::uint32_t kMaxModules = 2048;

  // Makes sure that the module of every pc is in the log. Returns size(): a pc of this stack belongs to the
  // newest module below that index that contains it.
  std::uint32_t note(std::span<const Pc> pcs) noexcept;

  // To be called when a module has been unloaded: its addresses may come to mean something else.
  void on_unload() noexcept { unload_count_.fetch_add(1, std::memory_order_relaxed); }

  [[nodiscard]] std::uint32_t size() const noexcept;
  // index < size(); nullptr for one that is just being written.
  [[nodiscard]] const SeenModule* at(std::uint32_t index) const noexcept {
    return modules_[index].load(std::memory_order_acquire);
  }

 private:
  SeenModule* find(Pc pc, std::uint32_t unloads) const noexcept;
  SeenModule* add(Pc pc, std::uint32_t unloads) noexcept;

  std::atomic<SeenModule*> modules_[kMaxModules] = {};
  std::atomic<std::uint32_t> size_{0};
  std::atomic<std::uint32_t> unload_count_{0};
};

extern constinit ModuleLog module_log;

}  // namespace profagent::safe
