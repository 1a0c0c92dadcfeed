// A profile in memory, as pprof understands it, built piece by piece and small: strings, functions,
// locations, stacks and label sets exist once, and a sample is two numbers plus its values. 100,000 samples
// with distinct stacks of 50 frames take about 30 MiB.
//
// Ordinary code of one thread. Throws std::invalid_argument when the caller breaks a rule stated here; the
// samples are then as before. After std::bad_alloc and std::length_error (2^32 elements) throw the profile
// away.
//
// Whatever is put in, the profile obeys the rules of its readers (google/pprof, Pyroscope, Parca, Alloy):
// clean strings, non-zero addresses, one value for each sample type, well-formed labels, no two samples
// alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "encoder/hash_index.h"
#include "encoder/pool.h"
#include "encoder/string_table.h"

namespace profagent::encoder {

// Positions in the profile's tables; on the wire the ids are these plus one.
enum class MappingIndex : std::uint32_t {};
enum class FunctionIndex : std::uint32_t {};
enum class LocationIndex : std::uint32_t {};
inline constexpr MappingIndex kNoMapping{std::numeric_limits<std::uint32_t>::max()};

struct TypeAndUnit {
  std::string_view type;
  std::string_view unit;
};

struct ValueType {
  StringId type = kEmptyString;
  StringId unit = kEmptyString;
};

// What the agent has resolved for the addresses of a mapping; a client resolves only what is not claimed.
struct MappingFlags {
  bool has_functions = false;
  bool has_filenames = false;
  bool has_line_numbers = false;
  bool has_inline_frames = false;
};

struct Mapping {
  std::uint64_t start = 0;
  std::uint64_t limit = 0;
  std::uint64_t offset = 0;
  StringId file = kEmptyString;
  StringId build_id = kEmptyString;
  MappingFlags flags = {};
};

struct Function {
  StringId name = kEmptyString;         // as people read it
  StringId system_name = kEmptyString;  // as the linker reads it
  StringId file = kEmptyString;
  std::uint32_t start_line = 0;
};

struct Line {
  FunctionIndex function{};
  std::uint32_t line = 0;
};

struct Location {
  std::uint64_t address = 0;
  MappingIndex mapping = kNoMapping;
  std::span<const Line> lines;  // the innermost inlined function first, the physical one last
};

// A text label has `text`; any other is numeric, with or without a unit.
struct Label {
  StringId key = kEmptyString;
  StringId text = kEmptyString;
  std::int64_t number = 0;
  StringId unit = kEmptyString;

  friend bool operator==(const Label&, const Label&) = default;
};

// Frames that no instruction stands for ("[stack table full]") get an address from this range, derived from
// their name: the same in every profile and every process. The range lies above what the kernel gives to
// programs on x86-64 and aarch64 unless they ask for it, and below 2^53, so that clients written in
// JavaScript keep every digit. These locations have no mapping.
inline constexpr std::uint64_t kSyntheticBegin = 0x000f'0000'0000'0000;
inline constexpr std::uint64_t kSyntheticEnd = 0x0010'0000'0000'0000;
[[nodiscard]] std::uint64_t synthetic_address(std::string_view name);

class Profile {
 public:
  // Alloy indexes past an array with a fifth sample type; Pyroscope refuses '-' in a type's name.
  static constexpr std::size_t kMaxSampleTypes = 4;
  explicit Profile(std::span<const TypeAndUnit> sample_types);

  StringId intern(std::string_view text) { return strings_.intern(text); }
  // The same without a copy. `text` belongs to what hold() was given, or outlives the profile.
  StringId intern_lent(std::string_view text) { return strings_.intern_lent(text); }
  // Lets it live as long as the profile.
  void hold(std::shared_ptr<const void> lender) { lenders_.push_back(std::move(lender)); }

  // The first mapping added is taken for the main executable by every client. Equal mappings (all but the
  // flags) are one; the first one's flags stay, see set_mapping_flags.
  MappingIndex add_mapping(const Mapping& mapping);
  void set_mapping_flags(MappingIndex mapping, MappingFlags flags);

  FunctionIndex add_function(std::string_view name, std::string_view system_name, std::string_view file,
                             std::uint32_t start_line);

  // One location for each (address, mapping); the lines of a second call are ignored, so ask find_location
  // before resolving symbols. The address is the identity of a frame between scrapes: equal only for equal
  // frames. It is the address of the call (return address minus one), or the exact pc of an interrupted
  // frame. Address 0 (a call through a null pointer) becomes a synthetic frame.
  [[nodiscard]] std::optional<LocationIndex> find_location(std::uint64_t address, MappingIndex mapping) const;
  LocationIndex add_location(std::uint64_t address, MappingIndex mapping, std::span<const Line> lines);

  // A frame of that name without code; the same name gives the same location.
  LocationIndex add_synthetic_location(std::string_view name);

  // The stack has the leaf first and may be empty. A sample with the stack and labels of an earlier one is
  // added to it, value by value (wrapping, as in Go). Labels without key, with an empty text, unit-less zeros
  // (readers cannot see either), keys that begin with "pprof::" (reserved) and second uses of a key are left
  // out. The order of labels does not matter.
  void add_sample(std::span<const LocationIndex> stack, std::span<const std::int64_t> values,
                  std::span<const Label> labels = {});

  void set_time(std::int64_t unix_nanos) { time_nanos_ = unix_nanos; }
  void set_duration(std::int64_t nanos) { duration_nanos_ = nanos; }  // CPU profiles and deltas only
  void set_period(TypeAndUnit type, std::int64_t period);
  void set_default_sample_type(std::string_view type);  // one of the sample types, or ""
  void set_doc_url(std::string_view url) { doc_url_ = intern(url); }
  void add_comment(std::string_view text);  // empty ones and repetitions are left out

  [[nodiscard]] std::string_view text(StringId id) const { return strings_.text(id); }
  [[nodiscard]] const StringTable& strings() const { return strings_; }
  [[nodiscard]] std::span<const ValueType> sample_types() const { return sample_types_; }
  [[nodiscard]] std::span<const Mapping> mappings() const { return mappings_; }
  [[nodiscard]] std::span<const Function> functions() const { return functions_; }
  [[nodiscard]] std::span<const Location> locations() const { return locations_; }
  [[nodiscard]] std::span<const StringId> comments() const { return comments_; }

  [[nodiscard]] const Mapping& mapping(MappingIndex i) const {
    return mappings_[static_cast<std::size_t>(i)];
  }
  [[nodiscard]] const Function& function(FunctionIndex i) const {
    return functions_[static_cast<std::size_t>(i)];
  }
  [[nodiscard]] const Location& location(LocationIndex i) const {
    return locations_[static_cast<std::size_t>(i)];
  }

  [[nodiscard]] std::size_t sample_count() const { return samples_.size(); }
  [[nodiscard]] std::span<const LocationIndex> stack(std::size_t sample) const {
    return stacks_[samples_[sample].stack];
  }
  [[nodiscard]] std::span<const Label> labels(std::size_t sample) const {
    return label_sets_[samples_[sample].labels];
  }
  [[nodiscard]] std::span<const std::int64_t> values(std::size_t sample) const {
    return std::span(values_).subspan(sample * sample_types_.size(), sample_types_.size());
  }

  [[nodiscard]] std::int64_t time_nanos() const { return time_nanos_; }
  [[nodiscard]] std::int64_t duration_nanos() const { return duration_nanos_; }
  [[nodiscard]] ValueType period_type() const { return period_type_; }
  [[nodiscard]] std::int64_t period() const { return period_; }
  [[nodiscard]] StringId default_sample_type() const { return default_sample_type_; }
  [[nodiscard]] StringId doc_url() const { return doc_url_; }

 private:
  struct Sample {
    std::uint32_t stack;
    std::uint32_t labels;
  };

  [[nodiscard]] std::uint32_t locate(std::uint64_t address, MappingIndex mapping) const;
  std::uint32_t intern_stack(std::span<const LocationIndex> stack);
  std::uint32_t intern_labels(std::span<const Label> labels);
  void select_labels(std::span<const Label> labels);
  [[nodiscard]] bool known(StringId id) const { return static_cast<std::size_t>(id) < strings_.size(); }

  std::vector<std::shared_ptr<const void>> lenders_;
  StringTable strings_;
  Pool pool_;  // lines, stacks, labels
  std::vector<ValueType> sample_types_;
  std::vector<Mapping> mappings_;
  std::vector<Function> functions_;
  std::vector<Location> locations_;
  std::vector<std::span<const LocationIndex>> stacks_;
  std::vector<std::span<const Label>> label_sets_;
  std::vector<Sample> samples_;
  std::vector<std::int64_t> values_;  // one row of sample_types_.size() for each sample
  std::vector<Label> selected_;       // scratch of intern_labels
  HashIndex function_index_;
  HashIndex location_index_;
  HashIndex stack_index_;
  HashIndex label_index_;
  HashIndex sample_index_;

  std::int64_t time_nanos_ = 0;
  std::int64_t duration_nanos_ = 0;
  std::int64_t period_ = 0;
  ValueType period_type_;
  StringId default_sample_type_ = kEmptyString;
  StringId doc_url_ = kEmptyString;
  std::vector<StringId> comments_;
};

}  // namespace profagent::encoder
