#include "encoder/pprof.h"

#include <cstddef>
#include <cstdint>
#include <protozero/pbf_writer.hpp>
#include <span>

#include "encoder/gzip.h"

namespace profagent::encoder {
namespace {

// Field numbers of encoder/proto/profile.proto.
namespace tag {
namespace profile {
enum : protozero::pbf_tag_type {
  kSampleType = 1,
  kSample = 2,
  kMapping = 3,
  kLocation = 4,
  kFunction = 5,
  kStringTable = 6,
  kTimeNanos = 9,
  kDurationNanos = 10,
  kPeriodType = 11,
  kPeriod = 12,
  kComment = 13,
  kDefaultSampleType = 14,
  kDocUrl = 15,
};
}  // namespace profile
namespace value_type {
enum : protozero::pbf_tag_type { kType = 1, kUnit = 2 };
}
namespace sample {
enum : protozero::pbf_tag_type { kLocationId = 1, kValue = 2, kLabel = 3 };
}
namespace label {
enum : protozero::pbf_tag_type { kKey = 1, kStr = 2, kNum = 3, kNumUnit = 4 };
}
namespace mapping {
enum : protozero::pbf_tag_type {
  kId = 1,
  kMemoryStart = 2,
  kMemoryLimit = 3,
  kFileOffset = 4,
  kFilename = 5,
  kBuildId = 6,
  kHasFunctions = 7,
  kHasFilenames = 8,
  kHasLineNumbers = 9,
  kHasInlineFrames = 10,
};
}
namespace location {
enum : protozero::pbf_tag_type { kId = 1, kMappingId = 2, kAddress = 3, kLine = 4 };
}
namespace line {
enum : protozero::pbf_tag_type { kFunctionId = 1, kLine = 2 };
}
namespace function {
enum : protozero::pbf_tag_type { kId = 1, kName = 2, kSystemName = 3, kFilename = 4, kStartLine = 5 };
}
}  // namespace tag

using protozero::pbf_tag_type;
using protozero::pbf_writer;

template <typename Index>
std::uint64_t wire_id(Index index) {
  return static_cast<std::uint64_t>(index) + 1;
}

// Fields that hold their default are not written (proto3).
void add_number(pbf_writer& message, pbf_tag_type field, std::int64_t value) {
  if (value != 0) message.add_int64(field, value);
}

void add_unsigned(pbf_writer& message, pbf_tag_type field, std::uint64_t value) {
  if (value != 0) message.add_uint64(field, value);
}

void add_string_id(pbf_writer& message, pbf_tag_type field, StringId id) {
  add_number(message, field, static_cast<std::int64_t>(id));
}

void add_flag(pbf_writer& message, pbf_tag_type field, bool value) {
  if (value) message.add_bool(field, value);
}

void fill(pbf_writer& message, const ValueType& value) {
  add_string_id(message, tag::value_type::kType, value.type);
  add_string_id(message, tag::value_type::kUnit, value.unit);
}

void fill(pbf_writer& message, const Label& label) {
  add_string_id(message, tag::label::kKey, label.key);
  add_string_id(message, tag::label::kStr, label.text);
  add_number(message, tag::label::kNum, label.number);
  add_string_id(message, tag::label::kNumUnit, label.unit);
}

void fill_sample(pbf_writer& message, const Profile& profile, std::size_t sample) {
  {
    protozero::packed_field_uint64 ids(message, tag::sample::kLocationId);
    for (const LocationIndex location : profile.stack(sample)) ids.add_element(wire_id(location));
  }
  const std::span<const std::int64_t> values = profile.values(sample);
  message.add_packed_int64(tag::sample::kValue, values.begin(), values.end());
  for (const Label& label : profile.labels(sample)) {
    pbf_writer part(message, tag::sample::kLabel);
    fill(part, label);
  }
}

void fill(pbf_writer& message, const Mapping& mapping, std::uint64_t id) {
  message.add_uint64(tag::mapping::kId, id);
  add_unsigned(message, tag::mapping::kMemoryStart, mapping.start);
  add_unsigned(message, tag::mapping::kMemoryLimit, mapping.limit);
  add_unsigned(message, tag::mapping::kFileOffset, mapping.offset);
  add_string_id(message, tag::mapping::kFilename, mapping.file);
  add_string_id(message, tag::mapping::kBuildId, mapping.build_id);
  add_flag(message, tag::mapping::kHasFunctions, mapping.flags.has_functions);
  add_flag(message, tag::mapping::kHasFilenames, mapping.flags.has_filenames);
  add_flag(message, tag::mapping::kHasLineNumbers, mapping.flags.has_line_numbers);
  add_flag(message, tag::mapping::kHasInlineFrames, mapping.flags.has_inline_frames);
}

void fill(pbf_writer& message, const Location& location, std::uint64_t id) {
  message.add_uint64(tag::location::kId, id);
  if (location.mapping != kNoMapping) {
    message.add_uint64(tag::location::kMappingId, wire_id(location.mapping));
  }
  message.add_uint64(tag::location::kAddress, location.address);
  for (const Line& line : location.lines) {
    pbf_writer part(message, tag::location::kLine);
    part.add_uint64(tag::line::kFunctionId, wire_id(line.function));
    add_number(part, tag::line::kLine, line.line);
  }
}

void fill(pbf_writer& message, const Function& function, std::uint64_t id) {
  message.add_uint64(tag::function::kId, id);
  add_string_id(message, tag::function::kName, function.name);
  add_string_id(message, tag::function::kSystemName, function.system_name);
  add_string_id(message, tag::function::kFilename, function.file);
  add_number(message, tag::function::kStartLine, function.start_line);
}

// The top level. A length prefix must be known before its message, so each message is built in a small
// buffer; full buffers go to the sink.
class ProfileWriter {
 public:
  explicit ProfileWriter(Sink& sink) : sink_(sink) {}

  template <typename Fill>
  void add_message(pbf_tag_type field, Fill fill_message) {
    {
      pbf_writer top(buffer_);
      pbf_writer message(top, field);
      fill_message(message);
    }
    if (buffer_.size() >= kChunk) flush();
  }

  template <typename Element>
  void add_table(pbf_tag_type field, std::span<const Element> table) {
    std::uint64_t id = 0;
    for (const Element& element : table) {
      ++id;
      add_message(field, [&](pbf_writer& message) { fill(message, element, id); });
    }
  }

  void add_strings(const StringTable& strings) {
    for (std::size_t i = 0; i < strings.size(); ++i) {
      const std::string_view text = strings.text(StringId{static_cast<std::uint32_t>(i)});
      pbf_writer(buffer_).add_string(tag::profile::kStringTable, text.data(), text.size());
      if (buffer_.size() >= kChunk) flush();
    }
  }

  void add_header(const Profile& profile) {
    pbf_writer top(buffer_);
    add_number(top, tag::profile::kTimeNanos, profile.time_nanos());
    add_number(top, tag::profile::kDurationNanos, profile.duration_nanos());
    if (profile.period_type().type != kEmptyString) {
      pbf_writer part(top, tag::profile::kPeriodType);
      fill(part, profile.period_type());
    }
    add_number(top, tag::profile::kPeriod, profile.period());
    for (const StringId comment : profile.comments()) add_string_id(top, tag::profile::kComment, comment);
    add_string_id(top, tag::profile::kDefaultSampleType, profile.default_sample_type());
    add_string_id(top, tag::profile::kDocUrl, profile.doc_url());
  }

  void flush() {
    sink_.write(buffer_);
    buffer_.clear();
  }

 private:
  static constexpr std::size_t kChunk = std::size_t{16} << 10U;

  Sink& sink_;
  std::string buffer_;
};

}  // namespace

void write_pprof(const Profile& profile, Sink& sink) {
  ProfileWriter writer(sink);
  for (const ValueType& type : profile.sample_types()) {
    writer.add_message(tag::profile::kSampleType, [&](pbf_writer& message) { fill(message, type); });
  }
  for (std::size_t i = 0; i < profile.sample_count(); ++i) {
    writer.add_message(tag::profile::kSample, [&](pbf_writer& message) { fill_sample(message, profile, i); });
  }
  writer.add_table(tag::profile::kMapping, profile.mappings());
  writer.add_table(tag::profile::kLocation, profile.locations());
  writer.add_table(tag::profile::kFunction, profile.functions());
  writer.add_strings(profile.strings());
  writer.add_header(profile);
  writer.flush();
}

void write_gzipped_pprof(const Profile& profile, Sink& sink) {
  GzipWriter gzip(sink);
  write_pprof(profile, gzip);
  gzip.finish();
}

std::string gzipped_pprof(const Profile& profile) {
  StringSink sink;
  write_gzipped_pprof(profile, sink);
  return sink.take();
}

}  // namespace profagent::encoder
