// Arbitrary bytes drive the builder; whatever comes out, in both snapshots, their delta and the text form,
// must decode and keep every rule that readers check.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "encoder/delta.h"
#include "encoder/pprof.h"
#include "encoder/text.h"
#include "test/unit/encoder_check.h"

namespace profagent::encoder {
namespace {

constexpr std::array<TypeAndUnit, 4> kTypes = {{{"alloc_objects", "count"},
                                                {"alloc_space", "bytes"},
                                                {"inuse_objects", "count"},
                                                {"inuse_space", "bytes"}}};

void expect(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

class Bytes {
 public:
  explicit Bytes(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  [[nodiscard]] bool empty() const { return bytes_.empty(); }

  std::uint8_t byte() {
    if (bytes_.empty()) return 0;
    const std::uint8_t value = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return value;
  }

  std::size_t below(std::size_t limit) { return limit == 0 ? 0 : byte() % limit; }

  std::uint64_t number() {
    std::uint64_t value = 0;
    for (std::size_t left = below(9); left > 0; --left) value = value << 8U | byte();
    return value;
  }

  std::int64_t signed_number() { return static_cast<std::int64_t>(number()); }

  // Mostly short; now and then beyond what a string may hold.
  std::string text() {
    const std::size_t length = below(24);
    std::string result;
    for (std::size_t i = 0; i < length; ++i) result += static_cast<char>(byte());
    if (length == 23) {
      while (result.size() < kMaxStringBytes) result += result;
    }
    return result;
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

class Builder {
 public:
  Builder(Bytes& bytes, std::size_t types) : profile(std::span(kTypes).first(types)), bytes_(bytes) {}

  // Stops at a byte 0 or at the end.
  void run() {
    while (!bytes_.empty()) {
      switch (bytes_.below(11)) {
        case 0:
          return;
        case 1:
          add_mapping();
          break;
        case 2:
          profile.add_function(bytes_.text(), bytes_.text(), bytes_.text(),
                               static_cast<std::uint32_t>(bytes_.number()));
          break;
        case 3:
        case 4:
          add_location();
          break;
        case 5:
          profile.add_synthetic_location(bytes_.text());
          break;
        case 6:
          set_header();
          break;
        default:
          add_sample();
      }
    }
  }

  Profile profile;

 private:
  MappingIndex some_mapping() {
    const std::size_t i = bytes_.below(profile.mappings().size() + 1);
    return i == profile.mappings().size() ? kNoMapping : MappingIndex{static_cast<std::uint32_t>(i)};
  }

  void add_mapping() {
    const StringId file = profile.intern(bytes_.text());
    const StringId build_id = profile.intern(bytes_.text());
    const std::uint8_t flags = bytes_.byte();
    profile.add_mapping({bytes_.number(),
                         bytes_.number(),
                         bytes_.number(),
                         file,
                         build_id,
                         {(flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0, (flags & 8) != 0}});
  }

  void add_location() {
    std::vector<Line> lines;
    for (std::size_t left = profile.functions().empty() ? 0 : bytes_.below(4); left > 0; --left) {
      const std::size_t function = bytes_.below(profile.functions().size());
      lines.push_back(
          {FunctionIndex{static_cast<std::uint32_t>(function)}, static_cast<std::uint32_t>(bytes_.number())});
    }
    profile.add_location(bytes_.number(), some_mapping(), lines);
  }

  void set_header() {
    profile.set_time(bytes_.signed_number());
    profile.set_duration(bytes_.signed_number());
    const std::string unit = bytes_.text();
    profile.set_period({bytes_.text(), unit}, bytes_.signed_number());
    profile.set_doc_url(bytes_.text());
    profile.add_comment(bytes_.text());
    profile.set_default_sample_type(kTypes[bytes_.below(profile.sample_types().size())].type);
  }

  void add_sample() {
    std::vector<LocationIndex> stack;
    for (std::size_t left = profile.locations().empty() ? 0 : bytes_.below(8); left > 0; --left) {
      stack.push_back(LocationIndex{static_cast<std::uint32_t>(bytes_.below(profile.locations().size()))});
    }
    std::vector<std::int64_t> values(profile.sample_types().size());
    for (std::int64_t& value : values) value = bytes_.signed_number();
    std::vector<Label> labels;
    for (std::size_t left = bytes_.below(4); left > 0; --left) {
      Label label{profile.intern(bytes_.below(8) == 0 ? "pprof::" + bytes_.text() : bytes_.text())};
      if (bytes_.below(2) == 0) label.text = profile.intern(bytes_.text());
      if (bytes_.below(2) == 0) label.number = bytes_.signed_number();
      if (bytes_.below(2) == 0) label.unit = profile.intern(bytes_.text());
      labels.push_back(label);
    }
    profile.add_sample(stack, values, labels);
  }

  Bytes& bytes_;
};

std::vector<std::uint64_t> totals(const proto::Profile& profile) {
  std::vector<std::uint64_t> result(static_cast<std::size_t>(profile.sample_type_size()));
  for (const proto::Sample& sample : profile.sample()) {
    for (int i = 0; i < sample.value_size(); ++i) {
      result[static_cast<std::size_t>(i)] += static_cast<std::uint64_t>(sample.value(i));
    }
  }
  return result;
}

proto::Profile check(const Profile& profile) {
  proto::Profile decoded = testing::decode(gzipped_pprof(profile));
  const std::vector<std::string> broken = testing::broken_rules(decoded);
  expect(broken.empty(), broken.empty() ? "" : broken.front().c_str());
  return decoded;
}

void check_delta(const Profile& before, const Profile& after) {
  const proto::Profile old_profile = check(before);
  const proto::Profile new_profile = check(after);
  const proto::Profile difference = check(delta(before, after));
  expect(difference.duration_nanos() > 0, "a delta has a duration");
  std::vector<std::uint64_t> sums = totals(old_profile);
  const std::vector<std::uint64_t> changes = totals(difference);
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += changes[i];
  expect(sums == totals(new_profile), "before + delta = after");
  std::vector<bool> used(static_cast<std::size_t>(difference.location_size()));
  for (const proto::Sample& sample : difference.sample()) {
    const auto& values = sample.value();
    const bool changed =
        std::any_of(values.begin(), values.end(), [](std::int64_t value) { return value != 0; });
    expect(changed, "a delta has no sample of zeros");
    for (const std::uint64_t id : sample.location_id()) used[id - 1] = true;
  }
  expect(std::find(used.begin(), used.end(), false) == used.end(), "a delta's locations are used");
  expect(check(delta(after, after)).sample_size() == 0, "nothing changes between equals");
}

// Lines stay lines whatever the names hold.
void check_text(const Profile& profile) {
  std::vector<TextFrame> frames;
  for (const Location& location : profile.locations()) {
    TextFrame frame{location.address, {}, 0, {}, 0, false};
    if (!location.lines.empty()) {
      const Function& function = profile.function(location.lines.front().function);
      frame.function = profile.text(function.name);
      frame.file = profile.text(function.file);
    }
    frames.push_back(frame);
  }
  std::vector<std::vector<std::uint32_t>> stacks;
  for (std::size_t i = 0; i < profile.sample_count(); ++i) {
    std::vector<std::uint32_t>& stack = stacks.emplace_back();
    for (const LocationIndex location : profile.stack(i))
      stack.push_back(static_cast<std::uint32_t>(location));
  }
  std::vector<HeapTextRecord> records;
  std::size_t lines = 1;
  for (const std::vector<std::uint32_t>& stack : stacks) {
    records.push_back({1, 8, 1, 8, stack});
    lines += 2 + stack.size();
  }
  StringSink sink;
  write_heap_text({frames, records, 524288, {}, {}}, sink);
  const std::string text = sink.take();
  expect(static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) == lines, "lines of the text");
  expect(is_utf8(text), "the text is UTF-8");
}

}  // namespace
}  // namespace profagent::encoder

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace profagent::encoder;
  Bytes bytes({data, size});
  const std::size_t types = 1 + bytes.below(4);
  Builder before(bytes, types);
  before.run();
  Builder after(bytes, types);
  after.run();
  check_delta(before.profile, after.profile);
  check_text(after.profile);
  return 0;
}
