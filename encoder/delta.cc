#include "encoder/delta.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "encoder/hash_index.h"

namespace profagent::encoder {
namespace {

std::int64_t wrapping_subtract(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(b));
}

std::int64_t wrapping_add(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}

bool all_zero(std::span<const std::int64_t> values) {
  return std::all_of(values.begin(), values.end(), [](std::int64_t value) { return value == 0; });
}

// A sample seen from outside of its profile: indices and string ids mean nothing there.
struct SampleView {
  const Profile& profile;
  std::size_t sample;

  [[nodiscard]] std::uint64_t hash() const {
    std::uint64_t result = 0;
    for (const LocationIndex location : profile.stack(sample)) {
      result = hash_mix(result, profile.location(location).address);
    }
    for (const Label& label : profile.labels(sample)) {
      result = hash_mix(result, hash_bytes(profile.text(label.key)));
      result = hash_mix(result, hash_bytes(profile.text(label.text)));
      result = hash_mix(result, static_cast<std::uint64_t>(label.number));
      result = hash_mix(result, hash_bytes(profile.text(label.unit)));
    }
    return result;
  }

  [[nodiscard]] bool same(const SampleView& other) const {
    const auto same_address = [&](LocationIndex a, LocationIndex b) {
      return profile.location(a).address == other.profile.location(b).address;
    };
    const auto same_label = [&](const Label& a, const Label& b) {
      return a.number == b.number && profile.text(a.key) == other.profile.text(b.key) &&
             profile.text(a.text) == other.profile.text(b.text) &&
             profile.text(a.unit) == other.profile.text(b.unit);
    };
    // Label sets are sorted by the text of their keys.
    return std::ranges::equal(profile.stack(sample), other.profile.stack(other.sample), same_address) &&
           std::ranges::equal(profile.labels(sample), other.profile.labels(other.sample), same_label);
  }
};

// The sums of like samples over both snapshots, before anything is copied: most of them are zero.
class Difference {
 public:
  Difference(std::size_t width, unsigned absolute) : width_(width), absolute_(absolute) {}

  void add(const Profile& profile) {
    for (std::size_t i = 0; i < profile.sample_count(); ++i) {
      const std::span<std::int64_t> sums = values_of(position_of({profile, i}));
      std::ranges::transform(sums, profile.values(i), sums.begin(), wrapping_add);
    }
  }

  void subtract(const Profile& profile) {
    for (std::size_t i = 0; i < profile.sample_count(); ++i) {
      const std::span<std::int64_t> sums = values_of(position_of({profile, i}));
      const std::span<const std::int64_t> values = profile.values(i);
      for (std::size_t type = 0; type < width_; ++type)
        if ((absolute_ >> type & 1) == 0) sums[type] = wrapping_subtract(sums[type], values[type]);
    }
  }

  template <typename Visit>
  void for_each_changed(Visit visit) {
    for (std::size_t i = 0; i < views_.size(); ++i) {
      if (const auto values = values_of(i); !all_zero(values)) visit(views_[i], values);
    }
  }

 private:
  std::size_t position_of(const SampleView& view) {
    const std::uint64_t hash = view.hash();
    const std::uint32_t found =
        index_.find(hash, [&](std::uint32_t position) { return views_[position].same(view); });
    if (found != HashIndex::kNone) return found;
    views_.push_back(view);
    values_.resize(values_.size() + width_);
    index_.insert(hash, views_.size() - 1);
    return views_.size() - 1;
  }

  std::span<std::int64_t> values_of(std::size_t position) {
    return std::span(values_).subspan(position * width_, width_);
  }

  std::size_t width_;
  unsigned absolute_;
  std::vector<SampleView> views_;
  std::vector<std::int64_t> values_;
  HashIndex index_;
};

// The locations of the result by address alone, so that a frame known to both snapshots under two
// descriptions becomes one.
class AddressIndex {
 public:
  template <typename Make>
  LocationIndex find_or_make(std::uint64_t address, Make make) {
    const std::uint64_t hash = hash_mix(0, address);
    const std::uint32_t found =
        index_.find(hash, [&](std::uint32_t position) { return entries_[position].first == address; });
    if (found != HashIndex::kNone) return entries_[found].second;
    const LocationIndex made = make();
    entries_.emplace_back(address, made);
    index_.insert(hash, entries_.size() - 1);
    return made;
  }

 private:
  std::vector<std::pair<std::uint64_t, LocationIndex>> entries_;
  HashIndex index_;
};

// Copies samples of one profile into another, with what they refer to and nothing else.
class Copier {
 public:
  Copier(const Profile& from, Profile& to, AddressIndex& addresses)
      : from_(from), to_(to), addresses_(addresses), locations_(from.locations().size(), kNotYet) {}

  void copy_sample(std::size_t sample, std::span<const std::int64_t> values) {
    stack_.clear();
    for (const LocationIndex location : from_.stack(sample)) stack_.push_back(copy(location));
    labels_.clear();
    for (const Label& label : from_.labels(sample)) {
      labels_.push_back({copy(label.key), copy(label.text), label.number, copy(label.unit)});
    }
    to_.add_sample(stack_, values, labels_);
  }

  MappingIndex copy(MappingIndex mapping) {
    if (mapping == kNoMapping) return mapping;
    Mapping copied = from_.mapping(mapping);
    copied.file = copy(copied.file);
    copied.build_id = copy(copied.build_id);
    return to_.add_mapping(copied);
  }

 private:
  static constexpr LocationIndex kNotYet{HashIndex::kNone};

  StringId copy(StringId id) { return to_.intern(from_.text(id)); }

  LocationIndex copy(LocationIndex index) {
    LocationIndex& known = locations_[static_cast<std::size_t>(index)];
    if (known == kNotYet) {
      const Location& location = from_.location(index);
      known = addresses_.find_or_make(location.address, [&] { return copy(location); });
    }
    return known;
  }

  LocationIndex copy(const Location& location) {
    lines_.clear();
    for (const Line& line : location.lines) {
      const Function& function = from_.function(line.function);
      lines_.push_back({to_.add_function(from_.text(function.name), from_.text(function.system_name),
                                         from_.text(function.file), function.start_line),
                        line.line});
    }
    return to_.add_location(location.address, copy(location.mapping), lines_);
  }

  const Profile& from_;
  Profile& to_;
  AddressIndex& addresses_;
  std::vector<LocationIndex> locations_;
  std::vector<LocationIndex> stack_;
  std::vector<Label> labels_;
  std::vector<Line> lines_;
};

std::vector<TypeAndUnit> sample_types(const Profile& profile) {
  std::vector<TypeAndUnit> result;
  for (const ValueType& type : profile.sample_types()) {
    result.push_back({profile.text(type.type), profile.text(type.unit)});
  }
  return result;
}

void require_same_types(const Profile& before, const Profile& after) {
  const auto same = [](const TypeAndUnit& a, const TypeAndUnit& b) {
    return a.type == b.type && a.unit == b.unit;
  };
  if (!std::ranges::equal(sample_types(before), sample_types(after), same)) {
    throw std::invalid_argument("delta of profiles with different sample types");
  }
}

void copy_header(const Profile& before, const Profile& after, Profile& result) {
  result.set_period({before.text(before.period_type().type), before.text(before.period_type().unit)},
                    before.period());
  result.set_default_sample_type(before.text(before.default_sample_type()));
  result.set_time(after.time_nanos());
  result.set_duration(std::max<std::int64_t>(1, wrapping_subtract(after.time_nanos(), before.time_nanos())));
  for (const StringId comment : after.comments()) result.add_comment(after.text(comment));
  result.set_doc_url(after.text(after.doc_url()));
}

}  // namespace

Profile delta(const Profile& before, const Profile& after, unsigned absolute) {
  require_same_types(before, after);
  Profile result(sample_types(before));
  copy_header(before, after, result);
  AddressIndex addresses;
  Copier from_after(after, result, addresses);
  Copier from_before(before, result, addresses);
  if (!after.mappings().empty()) {
    from_after.copy(MappingIndex{0});
  } else if (!before.mappings().empty()) {
    from_before.copy(MappingIndex{0});
  }

  Difference difference(result.sample_types().size(), absolute);
  difference.add(after);  // first, so that its description of a stack is the one copied
  difference.subtract(before);
  difference.for_each_changed([&](const SampleView& view, std::span<const std::int64_t> values) {
    Copier& copier = &view.profile == &after ? from_after : from_before;
    copier.copy_sample(view.sample, values);
  });
  return result;
}

}  // namespace profagent::encoder
