#include "agent/safe/module_log.h"

#include <cstring>
#include <type_traits>

#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include "agent/safe/arena.h"
#include "agent/safe/counters.h"
#include "agent/safe/image_print.h"
#include "agent/safe/sys.h"

namespace profagent::safe {

constinit ModuleLog module_log;
static_assert(std::is_trivially_destructible_v<ModuleLog>);

namespace {

constexpr std::size_t kMaxPath = 4096;

// The ELF header of a loaded object, with its program headers in the same page; nullptr when it is not
// mapped. When the linker left gaps between an object's segments (lld does), glibc reports one segment as the
// mapping; the header is then where the object's addresses begin.
const ElfW(Ehdr) * find_header(std::uintptr_t start, std::uintptr_t load_bias) {
  for (const std::uintptr_t at : {start, load_bias}) {
    if (at == 0 || !sys::is_readable(at)) continue;
    const auto* header = reinterpret_cast<const ElfW(Ehdr)*>(at);
    if (std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) continue;
    if (header->e_phoff > 4096 || header->e_phoff + header->e_phnum * sizeof(ElfW(Phdr)) > 4096) continue;
    return header;
  }
  return nullptr;
}

// Finds NT_GNU_BUILD_ID in the mapped notes of a loaded module, and what stands in for it. The module is
// alive: one of its functions is on the caller's stack.
void copy_identity(SeenModule& module, std::uintptr_t load_bias) {
  const ElfW(Ehdr)* header = find_header(module.start, load_bias);
  if (header == nullptr) return;
  module.print = image_print(header);
  const auto base = reinterpret_cast<std::uintptr_t>(header);
  const auto* segments = reinterpret_cast<const ElfW(Phdr)*>(base + header->e_phoff);
  for (std::size_t i = 0; i < header->e_phnum; ++i) {
    if (segments[i].p_type != PT_NOTE) continue;
    std::uintptr_t at = load_bias + segments[i].p_vaddr;
    const std::uintptr_t end = at + segments[i].p_memsz;
    // Notes of the object itself: in the page of its header or inside the reported mapping.
    const bool with_header = at >= base && end <= base + 4096;
    const bool inside = at >= module.start && end <= module.end;
    if (end < at || !(with_header || inside)) continue;
    while (at + sizeof(ElfW(Nhdr)) <= end) {
      const auto* note = reinterpret_cast<const ElfW(Nhdr)*>(at);
      const std::uintptr_t name = at + sizeof(*note);
      const std::uintptr_t content = name + ((note->n_namesz + 3U) & ~std::uintptr_t{3});
      const std::uintptr_t next = content + ((note->n_descsz + 3U) & ~std::uintptr_t{3});
      if (next > end || next <= at) break;
      if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 &&
          note->n_descsz <= SeenModule::kMaxBuildId &&
          std::memcmp(reinterpret_cast<const void*>(name), "GNU", 4) == 0) {
        module.build_id_size = note->n_descsz;
        std::memcpy(module.build_id, reinterpret_cast<const void*>(content), note->n_descsz);
        return;
      }
      at = next;
    }
  }
}

bool same_module(const SeenModule& a, const SeenModule& b) {
  return a.start == b.start && a.end == b.end && a.build_id_size == b.build_id_size &&
         std::memcmp(a.build_id, b.build_id, a.build_id_size) == 0 && a.print == b.print &&
         std::strcmp(a.path, b.path) == 0;
}

}  // namespace

std::uint32_t ModuleLog::size() const noexcept {
  const std::uint32_t claimed = size_.load(std::memory_order_acquire);
  std::uint32_t published = claimed < kMaxModules ? claimed : kMaxModules;
  // A writer that has claimed its index may not have stored it yet.
  while (published > 0 && modules_[published - 1].load(std::memory_order_acquire) == nullptr) --published;
  return published;
}

SeenModule* ModuleLog::find(Pc pc, std::uint32_t unloads) const noexcept {
  for (std::uint32_t i = size(); i-- > 0;) {
    SeenModule* module = modules_[i].load(std::memory_order_acquire);
    if (module != nullptr && pc >= module->start && pc < module->end &&
        module->seen_at.load(std::memory_order_relaxed) == unloads) {
      return module;
    }
  }
  return nullptr;
}

SeenModule* ModuleLog::add(Pc pc, std::uint32_t unloads) noexcept {
  dl_find_object found{};
  if (_dl_find_object(reinterpret_cast<void*>(pc), &found) != 0) return nullptr;
  SeenModule module;
  module.start = reinterpret_cast<std::uintptr_t>(found.dlfo_map_start);
  module.end = reinterpret_cast<std::uintptr_t>(found.dlfo_map_end);
  module.path = found.dlfo_link_map->l_name;
  copy_identity(module, found.dlfo_link_map->l_addr);

  for (std::uint32_t i = size(); i-- > 0;) {
    SeenModule* known = modules_[i].load(std::memory_order_acquire);
    if (known == nullptr || known->start >= module.end || known->end <= module.start) continue;
    if (!same_module(*known, module)) break;  // something else was here since: a new entry is needed
    known->seen_at.store(unloads, std::memory_order_relaxed);
    return known;
  }

  // The list before the arena: what a full list refuses must not use it up.
  const std::size_t length = strnlen(module.path, kMaxPath);
  SeenModule* entry = nullptr;
  if (size_.load(std::memory_order_relaxed) < kMaxModules) {
    entry = static_cast<SeenModule*>(arena.allocate(sizeof(SeenModule) + length + 1));
  }
  if (entry == nullptr) {
    count(counters.modules_not_noted);
    return nullptr;
  }
  const std::uint32_t index = size_.fetch_add(1, std::memory_order_acq_rel);
  if (index >= kMaxModules) return nullptr;  // lost a race for the last place; the next stack counts it
  char* path = reinterpret_cast<char*>(entry + 1);
  std::memcpy(path, module.path, length);  // the arena's memory is zeroed: already terminated
  entry->start = module.start;
  entry->end = module.end;
  entry->path = path;
  entry->print = module.print;
  entry->build_id_size = module.build_id_size;
  std::memcpy(entry->build_id, module.build_id, sizeof(module.build_id));
  entry->seen_at.store(unloads, std::memory_order_relaxed);
  modules_[index].store(entry, std::memory_order_release);  // pairs with the acquires in size(), find(), at()
  return entry;
}

std::uint32_t ModuleLog::note(std::span<const Pc> pcs) noexcept {
  const std::uint32_t unloads = unload_count_.load(std::memory_order_relaxed);
  const SeenModule* last = nullptr;
  for (const Pc pc : pcs) {
    if (last != nullptr && pc >= last->start && pc < last->end) continue;
    const SeenModule* module = find(pc, unloads);
    if (module == nullptr) module = add(pc, unloads);
    if (module != nullptr) last = module;
  }
  return size();
}

}  // namespace profagent::safe
