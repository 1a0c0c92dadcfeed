#include "agent/service/stacks.h"

#include <algorithm>
#include <utility>

#include "agent/safe/module_log.h"
#include "agent/safe/stack_table.h"
#include "agent/service/allocator_frames.h"

namespace profagent::service {

namespace {

ModuleSet modules_of_now() {
  std::vector<SeenModule> seen;
  const std::uint32_t count = safe::module_log.size();
  seen.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    const safe::SeenModule* module = safe::module_log.at(i);
    // Without a name: the main executable, which is never unloaded.
    if (module == nullptr || *module->path == '\0') continue;
    seen.push_back({module->start, module->end, module->path, {module->build_id, module->build_id_size}, i});
  }
  return ModuleSet::now(seen);
}

// Not std::ranges::unique: Clang 14 cannot compile the subrange that libstdc++ 12 returns.
template <typename Value>
void sort_and_unique(std::vector<Value>& values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
}

// Stacks share most of their frames: what is known is dropped before the list grows large.
class Addresses {
 public:
  void add(std::span<const safe::Pc> stack) {
    constexpr std::size_t kCompactAt = std::size_t{1} << 16;
    if (pcs_.size() + stack.size() > pcs_.capacity() && pcs_.size() >= kCompactAt) sort_and_unique(pcs_);
    pcs_.insert(pcs_.end(), stack.begin(), stack.end());
  }
  [[nodiscard]] std::vector<safe::Pc> take() {
    sort_and_unique(pcs_);
    return std::move(pcs_);
  }

 private:
  std::vector<safe::Pc> pcs_;
};

std::vector<safe::Pc> addresses_of(std::span<const safe::StackId> stacks) {
  std::vector<safe::StackId> distinct(stacks.begin(), stacks.end());
  sort_and_unique(distinct);
  Addresses addresses;
  for (const safe::StackId id : distinct) {
    const safe::InternedStack* stack = safe::stack_table.find(id);
    if (stack != nullptr) addresses.add(stack->pcs());
  }
  return addresses.take();
}

std::vector<safe::Pc> addresses_of(const StackPool& stacks) {
  Addresses addresses;
  for (std::uint32_t i = 0; i < stacks.size(); ++i) addresses.add(stacks[i]);
  return addresses.take();
}

}  // namespace

ReadableStacks::ReadableStacks(Symbolizer& symbolizer, std::span<const safe::StackId> stacks, LeafFrames leaf)
    : modules_(modules_of_now()), leaf_(leaf) {
  resolve(symbolizer, addresses_of(stacks));
}

ReadableStacks::ReadableStacks(Symbolizer& symbolizer, const StackPool& stacks)
    : modules_(modules_of_now()), leaf_(LeafFrames::kAll) {
  resolve(symbolizer, addresses_of(stacks));
}

void ReadableStacks::resolve(Symbolizer& symbolizer, std::span<const safe::Pc> pcs) {
  std::vector<ResolvedPc> resolved = symbolizer.resolve(modules_, pcs);
  frames_.reserve(pcs.size() + 1);
  frames_.push_back({});
  for (std::size_t i = 0; i < pcs.size(); ++i) frames_.push_back({pcs[i], std::move(resolved[i])});
}

std::uint32_t ReadableStacks::position_of(std::uintptr_t pc) const noexcept {
  const auto found = std::ranges::lower_bound(frames_, pc, {}, &Frame::pc);
  return static_cast<std::uint32_t>(found - frames_.begin());
}

void ReadableStacks::positions(safe::StackId id, std::vector<std::uint32_t>& out) const {
  out.clear();
  if (id == safe::kOverflowStack) out.push_back(0);
  const safe::InternedStack* stack = safe::stack_table.find(id);
  if (stack == nullptr) return;
  for (const std::uintptr_t pc : stack->pcs()) {
    const std::uint32_t position = position_of(pc);
    // Only the leaf's run of allocator frames is dropped: one further out is a program that allocates while
    // it allocates.
    if (leaf_ == LeafFrames::kWithoutAllocator && out.size() == 1 &&
        is_allocator_frame(frames_[out.front()].resolved.symbol->name)) {
      out.clear();
    }
    out.push_back(position);
  }
}

void ReadableStacks::positions(std::span<const safe::Pc> pcs, std::vector<std::uint32_t>& out) const {
  out.clear();
  for (const safe::Pc pc : pcs) out.push_back(position_of(pc));
}

std::vector<encoder::LocationIndex> ReadableStacks::describe(encoder::Profile& profile) const {
  std::vector<bool> used(modules_.modules().size(), false);
  const auto index_of = [&](const Module* module) {
    return static_cast<std::size_t>(module - modules_.modules().data());
  };
  for (const Frame& frame : frames_) {
    if (frame.resolved.module != nullptr) used[index_of(frame.resolved.module)] = true;
  }

  // As Go does, every executable mapping is listed; code made at run time and unloaded modules only when a
  // frame lies there.
  std::vector<encoder::MappingIndex> mappings(modules_.modules().size(), encoder::kNoMapping);
  for (std::size_t i = 0; i < mappings.size(); ++i) {
    const Module& module = modules_.modules()[i];
    const Image* image = modules_.image_of(module);
    const bool listed = module.kind == ModuleKind::kVdso || (image != nullptr && image->live);
    if (!listed && !used[i]) continue;
    mappings[i] = profile.add_mapping({.start = module.start,
                                       .limit = module.limit,
                                       .offset = module.offset,
                                       .file = profile.intern(module.path),
                                       .build_id = profile.intern(module.build_id),
                                       // "We have tried": what has no name got a placeholder.
                                       .flags = {.has_functions = true}});
  }

  std::vector<encoder::LocationIndex> locations;
  locations.reserve(frames_.size());
  locations.push_back(profile.add_synthetic_location(kOverflowFrameName));
  for (std::size_t i = 1; i < frames_.size(); ++i) {
    const Frame& frame = frames_[i];
    const Symbol& symbol = *frame.resolved.symbol;
    const encoder::Line line{.function = profile.add_function(symbol.name, symbol.system_name, "", 0)};
    const Module* module = frame.resolved.module;
    locations.push_back(profile.add_location(
        frame.pc, module == nullptr ? encoder::kNoMapping : mappings[index_of(module)], {&line, 1}));
  }
  return locations;
}

}  // namespace profagent::service
