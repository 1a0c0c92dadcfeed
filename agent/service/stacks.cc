#include "agent/service/stacks.h"

#include <algorithm>
#include <utility>

#include "agent/safe/module_log.h"
#include "agent/safe/stack_table.h"
#include "agent/service/allocator_frames.h"
#include "agent/service/demangle.h"

namespace profagent::service {

namespace {

constexpr std::string_view kUnknownName = "[unknown]";

ModuleSet modules_of_now() {
  std::vector<SeenModule> seen;
  const std::uint32_t count = safe::module_log.size();
  seen.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    const safe::SeenModule* module = safe::module_log.at(i);
    // Without a name: the main executable, which is never unloaded.
    if (module == nullptr || *module->path == '\0') continue;
    seen.push_back({.start = module->start,
                    .end = module->end,
                    .path = module->path,
                    .build_id = {module->build_id, module->build_id_size},
                    .epoch = i,
                    .print = module->print});
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

ReadableStacks::ReadableStacks(SymbolSources& sources, const SymbolWish& wish,
                               std::span<const safe::StackId> stacks, LeafFrames leaf)
    : modules_(modules_of_now()), leaf_(leaf), wish_(wish) {
  resolve(sources, addresses_of(stacks));
}

ReadableStacks::ReadableStacks(SymbolSources& sources, const SymbolWish& wish, const StackPool& stacks)
    : modules_(modules_of_now()), leaf_(LeafFrames::kAll), wish_(wish) {
  resolve(sources, addresses_of(stacks));
}

void ReadableStacks::resolve(SymbolSources& sources, std::span<const safe::Pc> pcs) {
  std::vector<ResolvedPc> resolved = wish_.detail == SymbolDetail::kNone
                                         ? sources.symbolizer.place(modules_, pcs)
                                         : sources.symbolizer.resolve(modules_, pcs);
  names_problem_ = sources.symbolizer.problem();
  frames_.reserve(pcs.size() + 1);
  frames_.push_back({});
  for (std::size_t i = 0; i < pcs.size(); ++i) {
    frames_.push_back({.pc = pcs[i], .resolved = std::move(resolved[i]), .chain = {}});
  }
  resolved = {};
  if (wish_.detail == SymbolDetail::kLines) find_lines(sources.source_lines, pcs);
  add_names();
}

void ReadableStacks::find_lines(SourceLines& source_lines, std::span<const safe::Pc> pcs) {
  LinePatience alone;
  LineAnswer answer = source_lines.find(modules_, pcs, wish_.patience ? *wish_.patience : alone);
  lines_problem_ = std::move(answer.problem);
  lines_ = std::move(answer.store);
  std::unordered_map<std::string_view, bool> allocators;
  for (std::size_t i = 0; i < pcs.size(); ++i) {
    Frame& frame = frames_[i + 1];
    frame.chain = answer.chains[i];
    if (leaf_ == LeafFrames::kWithoutAllocator) hide_allocators(frame, allocators);
  }
}

// What allocators call is allocators, so they stand at the leaf.
void ReadableStacks::hide_allocators(Frame& frame, std::unordered_map<std::string_view, bool>& known) const {
  const LineChain& chain = frame.chain;
  for (; frame.hidden + 1 < chain.size(); ++frame.hidden) {
    const std::string_view name = chain[frame.hidden].function;
    const auto [at, is_new] = known.try_emplace(name);
    if (is_new) at->second = is_allocator_frame(demangle(name));
    if (!at->second) return;
  }
}

// Whether the symbolizer's name stands for the chain's.
bool ReadableStacks::is_own_name(const Frame& frame, std::size_t index) const noexcept {
  return frame.resolved.found && index + 1 == frame.chain.size();
}

// Before the profile is built, so that what is needed to see what is known is gone by then.
void ReadableStacks::add_names() {
  // A text has one place, in the store as among the symbols.
  std::unordered_map<const char*, encoder::StringId> known;
  const auto add = [&](std::string_view system_name) {
    const auto [at, is_new] = known.try_emplace(system_name.data());
    if (is_new) at->second = readable_.intern(demangle(system_name, wish_.style));
    names_.push_back(at->second);
  };
  for (Frame& frame : std::span(frames_).subspan(1)) {
    frame.names = static_cast<std::uint32_t>(names_.size());
    // In the default style the symbolizer has it.
    if (wish_.style != DemangleStyle::kDefault) add(frame.resolved.symbol->system_name);
    for (std::size_t i = frame.hidden; i < frame.chain.size(); ++i)
      if (!is_own_name(frame, i)) add(frame.chain[i].function);
  }
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

void ReadableStacks::functions(const Frame& frame, std::vector<Function>& out) const {
  out.clear();
  const Symbol& symbol = *frame.resolved.symbol;
  auto names = names_.begin() + frame.names;
  const std::string_view name =
      wish_.style == DemangleStyle::kDefault ? symbol.name : readable_.text(*names++);
  if (frame.chain.empty()) {
    out.push_back({name, symbol.system_name, {}, 0});
    return;
  }
  for (std::size_t i = frame.hidden; i < frame.chain.size(); ++i) {
    const SourceLine line = frame.chain[i];
    const bool has_frame = i + 1 == frame.chain.size();
    const std::string_view readable = is_own_name(frame, i) ? name : readable_.text(*names++);
    if (has_frame && (frame.resolved.found || line.function.empty())) {
      // By this name debuggers know it too, and it is the same without debug information.
      out.push_back({name, symbol.system_name, line.file, line.line});
    } else if (line.function.empty()) {
      out.push_back({kUnknownName, kUnknownName, line.file, line.line});
    } else {
      out.push_back({readable, line.function, line.file, line.line});
    }
  }
}

std::vector<encoder::MappingIndex> ReadableStacks::describe_mappings(encoder::Profile& profile) const {
  struct Use {
    bool is_used = false;
    encoder::MappingFlags flags;
  };
  std::vector<Use> uses(modules_.modules().size());
  for (const Frame& frame : frames_) {
    if (frame.resolved.module == nullptr) continue;
    Use& use = uses[index_of(*frame.resolved.module)];
    use.is_used = true;
    if (frame.chain.empty()) continue;
    use.flags.has_inline_frames = true;
    for (const SourceLine line : frame.chain) {
      use.flags.has_filenames |= !line.file.empty();
      use.flags.has_line_numbers |= line.line != 0;
    }
  }

  // As Go does, every executable mapping is listed; code made at run time and unloaded modules only when a
  // frame lies there.
  std::vector<encoder::MappingIndex> mappings(uses.size(), encoder::kNoMapping);
  for (std::size_t i = 0; i < mappings.size(); ++i) {
    const Module& module = modules_.modules()[i];
    const Image* image = modules_.image_of(module);
    const bool listed = module.kind == ModuleKind::kVdso || (image != nullptr && image->live);
    if (!listed && !uses[i].is_used) continue;
    // "We have tried": what has no name got a placeholder.
    uses[i].flags.has_functions = wish_.detail != SymbolDetail::kNone;
    mappings[i] = profile.add_mapping({.start = module.start,
                                       .limit = module.limit,
                                       .offset = module.offset,
                                       .file = profile.intern(module.path),
                                       .build_id = profile.intern(module.build_id),
                                       .flags = uses[i].flags});
  }
  return mappings;
}

// What a profile is going to hold, and the store has.
void ReadableStacks::lend_texts(const Frame& frame, encoder::Profile& profile) const {
  for (std::size_t i = frame.hidden; i < frame.chain.size(); ++i) {
    const SourceLine line = frame.chain[i];
    profile.intern_lent(line.file);
    if (!is_own_name(frame, i) || line.function == frame.resolved.symbol->system_name)
      profile.intern_lent(line.function);
  }
}

std::vector<encoder::LocationIndex> ReadableStacks::describe(encoder::Profile& profile) const {
  const std::vector<encoder::MappingIndex> mappings = describe_mappings(profile);
  profile.add_comment(names_problem_);
  profile.add_comment(lines_problem_);
  profile.hold(lines_);
  std::vector<encoder::LocationIndex> locations;
  locations.reserve(frames_.size());
  locations.push_back(profile.add_synthetic_location(kOverflowFrameName));
  std::vector<Function> inside;
  std::vector<encoder::Line> lines;
  for (const Frame& frame : std::span(frames_).subspan(1)) {
    lend_texts(frame, profile);
    functions(frame, inside);
    lines.clear();
    for (const Function& function : inside) {
      lines.push_back(
          {profile.add_function(function.name, function.system_name, function.file, 0), function.line});
    }
    const Module* module = frame.resolved.module;
    locations.push_back(profile.add_location(
        frame.pc, module == nullptr ? encoder::kNoMapping : mappings[index_of(*module)], lines));
  }
  return locations;
}

}  // namespace profagent::service
