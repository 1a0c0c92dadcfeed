#include "agent/service/modules.h"

#include <algorithm>

#include <elf.h>

#include "agent/service/maps.h"
#include "agent/service/modules_builder.h"

namespace profagent::service {

namespace {

constexpr std::uintptr_t kPageMask = 4095;

}  // namespace

bool Image::holds(std::uintptr_t address) const noexcept {
  if (header == 0) return false;
  return std::any_of(segments.begin(), segments.end(), [&](const ElfSegment& segment) {
    if (segment.type != PT_LOAD) return false;
    const std::uintptr_t begin = (bias + segment.address) & ~kPageMask;
    const std::uintptr_t end = (bias + segment.address + segment.memory_size + kPageMask) & ~kPageMask;
    return address >= begin && address < end;
  });
}

ModuleSet ModuleSet::now(std::span<const SeenModule> seen, const ModuleSources& sources) {
  ModuleSetBuilder builder;
  const bool have_maps = read_maps([&](const Mapping& mapping) { builder.add(mapping); }, sources.maps_path);
  if (!have_maps) builder.add_loaded_objects(sources.main_path);
  builder.remember(seen);
  return builder.take();
}

const Module* ModuleSet::find(std::uintptr_t pc) const noexcept {
  auto after = std::upper_bound(ranges_.begin(), ranges_.end(), pc,
                                [](std::uintptr_t value, const Range& range) { return value < range.start; });
  if (after == ranges_.begin()) return nullptr;
  --after;
  return pc < after->limit ? &modules_[after->module] : nullptr;
}

const Image* ModuleSet::image_of(const Module& module) const noexcept {
  return module.image < images_.size() ? &images_[module.image] : nullptr;
}

std::optional<std::uint64_t> ModuleSet::address_in_image(const Module& module, std::uintptr_t pc) const {
  const Image* const image = image_of(module);
  if (image == nullptr) return std::nullopt;
  if (image->header != 0) return pc - image->bias;
  return address_of_offset(image->segments, pc - module.start + module.offset);
}

}  // namespace profagent::service
