#include "encoder/profile.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace profagent::encoder {
namespace {

constexpr std::string_view kReservedKeyPrefix = "pprof::";

void require(bool condition, const char* rule) {
  if (!condition) throw std::invalid_argument(rule);
}

template <typename Index>
std::uint64_t number(Index index) {
  return static_cast<std::uint64_t>(index);
}

std::uint64_t hash_stack(std::span<const LocationIndex> stack) {
  std::uint64_t hash = stack.size();
  for (const LocationIndex location : stack) hash = hash_mix(hash, number(location));
  return hash;
}

std::uint64_t hash_labels(std::span<const Label> labels) {
  std::uint64_t hash = labels.size();
  for (const Label& label : labels) {
    hash = hash_mix(hash, number(label.key) << 32U | number(label.text));
    hash = hash_mix(hash, static_cast<std::uint64_t>(label.number));
    hash = hash_mix(hash, number(label.unit));
  }
  return hash;
}

// Signed overflow is undefined; Go's wraps.
std::int64_t wrapping_add(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}

}  // namespace

std::uint64_t synthetic_address(std::string_view name) {
  // FNV-1a, spelled out because the value is seen from outside: it must not change with the C++ library.
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  hash ^= hash >> 48U;
  return kSyntheticBegin + hash % (kSyntheticEnd - kSyntheticBegin);
}

Profile::Profile(std::span<const TypeAndUnit> sample_types) : stacks_(1), label_sets_(1) {
  require(!sample_types.empty() && sample_types.size() <= kMaxSampleTypes, "one to four sample types");
  for (const TypeAndUnit& type : sample_types) {
    require(!type.type.empty() && type.type.find('-') == std::string_view::npos, "sample type name");
    sample_types_.push_back({intern(type.type), intern(type.unit)});
  }
}

MappingIndex Profile::add_mapping(const Mapping& mapping) {
  require(known(mapping.file) && known(mapping.build_id), "unknown string");
  // A process has some hundred mappings, and a caller adds each once: no index.
  const auto equal = [&](const Mapping& other) {
    return other.start == mapping.start && other.limit == mapping.limit && other.offset == mapping.offset &&
           other.file == mapping.file && other.build_id == mapping.build_id;
  };
  const auto found = std::find_if(mappings_.begin(), mappings_.end(), equal);
  const auto index = static_cast<std::uint32_t>(found - mappings_.begin());
  if (found == mappings_.end()) mappings_.push_back(mapping);
  return MappingIndex{index};
}

void Profile::set_mapping_flags(MappingIndex mapping, MappingFlags flags) {
  require(number(mapping) < mappings_.size(), "unknown mapping");
  mappings_[number(mapping)].flags = flags;
}

FunctionIndex Profile::add_function(std::string_view name, std::string_view system_name,
                                    std::string_view file, std::uint32_t start_line) {
  const Function added{intern(name), intern(system_name), intern(file), start_line};
  std::uint64_t hash = hash_mix(number(added.name), number(added.system_name));
  hash = hash_mix(hash, number(added.file));
  hash = hash_mix(hash, start_line);
  const std::uint32_t found = function_index_.find(hash, [&](std::uint32_t position) {
    const Function& other = functions_[position];
    return other.name == added.name && other.system_name == added.system_name && other.file == added.file &&
           other.start_line == start_line;
  });
  if (found != HashIndex::kNone) return FunctionIndex{found};
  const auto position = static_cast<std::uint32_t>(functions_.size());
  functions_.push_back(added);
  function_index_.insert(hash, position);
  return FunctionIndex{position};
}

std::uint32_t Profile::locate(std::uint64_t address, MappingIndex mapping) const {
  return location_index_.find(hash_mix(address, number(mapping)), [&](std::uint32_t position) {
    return locations_[position].address == address && locations_[position].mapping == mapping;
  });
}

std::optional<LocationIndex> Profile::find_location(std::uint64_t address, MappingIndex mapping) const {
  const std::uint32_t found = locate(address, mapping);
  if (found == HashIndex::kNone) return std::nullopt;
  return LocationIndex{found};
}

LocationIndex Profile::add_location(std::uint64_t address, MappingIndex mapping,
                                    std::span<const Line> lines) {
  require(mapping == kNoMapping || number(mapping) < mappings_.size(), "unknown mapping");
  for (const Line& line : lines) require(number(line.function) < functions_.size(), "unknown function");
  if (address == 0) {
    if (lines.empty()) return add_synthetic_location("[null]");
    return add_synthetic_location(std::string(text(function(lines.front().function).name)));
  }
  if (const std::uint32_t found = locate(address, mapping); found != HashIndex::kNone) {
    return LocationIndex{found};
  }
  const auto position = static_cast<std::uint32_t>(locations_.size());
  locations_.push_back({address, mapping, pool_.copy(lines)});
  location_index_.insert(hash_mix(address, number(mapping)), position);
  return LocationIndex{position};
}

LocationIndex Profile::add_synthetic_location(std::string_view name) {
  const Line line{add_function(name, name, {}, 0), 0};
  // Two names may meet in one address: then the later one takes the next.
  for (std::uint64_t address = synthetic_address(name);; ++address) {
    if (address == kSyntheticEnd) address = kSyntheticBegin;
    const std::optional<LocationIndex> found = find_location(address, kNoMapping);
    if (!found) return add_location(address, kNoMapping, {&line, 1});
    const std::span<const Line> lines = location(*found).lines;
    if (lines.size() == 1 && lines.front().function == line.function) return *found;
  }
}

void Profile::add_sample(std::span<const LocationIndex> stack, std::span<const std::int64_t> values,
                         std::span<const Label> labels) {
  require(values.size() == sample_types_.size(), "one value for each sample type");
  for (const LocationIndex location : stack)
    require(number(location) < locations_.size(), "unknown location");
  const Sample sample{intern_stack(stack), intern_labels(labels)};
  const std::uint64_t hash = hash_mix(sample.stack, sample.labels);
  const std::uint32_t found = sample_index_.find(hash, [&](std::uint32_t position) {
    return samples_[position].stack == sample.stack && samples_[position].labels == sample.labels;
  });
  if (found != HashIndex::kNone) {
    const std::span<std::int64_t> sums = std::span(values_).subspan(found * values.size(), values.size());
    for (std::size_t i = 0; i < values.size(); ++i) sums[i] = wrapping_add(sums[i], values[i]);
    return;
  }
  values_.insert(values_.end(), values.begin(), values.end());
  samples_.push_back(sample);
  sample_index_.insert(hash, samples_.size() - 1);
}

std::uint32_t Profile::intern_stack(std::span<const LocationIndex> stack) {
  if (stack.empty()) return 0;
  const std::uint64_t hash = hash_stack(stack);
  const std::uint32_t found = stack_index_.find(
      hash, [&](std::uint32_t position) { return std::ranges::equal(stacks_[position], stack); });
  if (found != HashIndex::kNone) return found;
  const auto position = static_cast<std::uint32_t>(stacks_.size());
  stacks_.push_back(pool_.copy(stack));
  stack_index_.insert(hash, position);
  return position;
}

std::uint32_t Profile::intern_labels(std::span<const Label> labels) {
  select_labels(labels);
  if (selected_.empty()) return 0;
  const std::uint64_t hash = hash_labels(selected_);
  const std::uint32_t found = label_index_.find(
      hash, [&](std::uint32_t position) { return std::ranges::equal(label_sets_[position], selected_); });
  if (found != HashIndex::kNone) return found;
  const auto position = static_cast<std::uint32_t>(label_sets_.size());
  label_sets_.push_back(pool_.copy(std::span<const Label>(selected_)));
  label_index_.insert(hash, position);
  return position;
}

// Leaves in selected_ what a reader can see, in the order of the keys' text: a set has one spelling, in this
// profile and in any other.
void Profile::select_labels(std::span<const Label> labels) {
  selected_.clear();
  for (Label label : labels) {
    require(known(label.key) && known(label.text) && known(label.unit), "unknown string");
    const bool invisible = label.text == kEmptyString && label.number == 0 && label.unit == kEmptyString;
    if (label.key == kEmptyString || invisible || text(label.key).starts_with(kReservedKeyPrefix)) continue;
    const auto same_key = [&](const Label& other) { return other.key == label.key; };
    if (std::any_of(selected_.begin(), selected_.end(), same_key)) continue;
    if (label.text != kEmptyString) label = {label.key, label.text};
    selected_.push_back(label);
  }
  std::sort(selected_.begin(), selected_.end(),
            [this](const Label& a, const Label& b) { return text(a.key) < text(b.key); });
}

void Profile::set_period(TypeAndUnit type, std::int64_t period) {
  period_type_ = {intern(type.type), intern(type.unit)};
  period_ = period;
}

void Profile::set_default_sample_type(std::string_view type) {
  const StringId id = intern(type);
  const bool offered = std::any_of(sample_types_.begin(), sample_types_.end(),
                                   [&](const ValueType& other) { return other.type == id; });
  require(offered || type.empty(), "default sample type is not one of the sample types");
  default_sample_type_ = id;
}

void Profile::add_comment(std::string_view text) {
  const StringId id = intern(text);
  if (id == kEmptyString || std::find(comments_.begin(), comments_.end(), id) != comments_.end()) return;
  comments_.push_back(id);
}

}  // namespace profagent::encoder
