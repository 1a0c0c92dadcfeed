#include "agent/service/heap_profile.h"

#include <ctime>
#include <utility>

#include "agent/safe/clock.h"
#include "agent/safe/heap_buckets.h"
#include "agent/safe/heap_recorder.h"
#include "agent/safe/threads.h"
#include "agent/service/delta_collection.h"
#include "agent/service/since_last.h"
#include "agent/service/stacks.h"
#include "agent/service/text_parts.h"
#include "encoder/heap_scale.h"
#include "encoder/pprof.h"
#include "encoder/text.h"

namespace profagent::service {

namespace {

constexpr encoder::TypeAndUnit kSampleTypes[] = {{"alloc_objects", "count"},
                                                 {"alloc_space", "bytes"},
                                                 {"inuse_objects", "count"},
                                                 {"inuse_space", "bytes"}};

constexpr ProfileKind kHeap{
    .name = "heap",
    .sentence =
        "Memory that is in use now, by where it was allocated; and all that was allocated since the start."};
constexpr ProfileKind kDeltaHeap{
    .name = "delta_heap",
    .sentence =
        "What was allocated since the last request for this page, and all that is in use now. For one "
        "scraper, such as Alloy.",
    .timing = Timing::kNow,
    .is_for_scraper = true};
// inuse_objects and inuse_space stay as they are, as in Go's godeltaprof.
constexpr unsigned kInUseColumns = 0b1100;
constexpr ProfileKind kAllocs{
    .name = "allocs",
    .sentence = "All memory allocated since the start, freed or not, by where it was allocated."};

struct Row {
  safe::StackId stack;
  std::int64_t size;
  std::int64_t rate;
  std::int64_t allocations;
  std::int64_t live;
};

struct Reading {
  std::int64_t time;  // unix, ns
  std::vector<Row> rows;
};

Reading read_rows() {
  Reading reading{safe::now_by(CLOCK_REALTIME), {}};
  std::vector<Row>& rows = reading.rows;
  rows.reserve(safe::heap_buckets.size());
  safe::heap_buckets.for_each([&](const safe::HeapBucket& bucket) {
    // Frees first: a block may be allocated and freed between the two loads, never the other way round.
    const auto frees = static_cast<std::int64_t>(bucket.frees.load(std::memory_order_acquire));
    const auto allocations = static_cast<std::int64_t>(bucket.allocations.load(std::memory_order_acquire));
    rows.push_back({bucket.stack, static_cast<std::int64_t>(bucket.size),
                    static_cast<std::int64_t>(bucket.rate), allocations,
                    allocations > frees ? allocations - frees : 0});
  });
  return reading;
}

std::vector<safe::StackId> stacks_of(const std::vector<Row>& rows) {
  std::vector<safe::StackId> stacks;
  stacks.reserve(rows.size());
  for (const Row& row : rows) stacks.push_back(row.stack);
  return stacks;
}

class HeapSource final : public ProfileSource {
 public:
  HeapSource(const ProfileKind& kind, std::string_view default_type, SymbolSources& symbols,
             std::string coverage, bool available)
      : kind_(kind),
        default_type_(default_type),
        symbols_(symbols),
        coverage_(std::move(coverage)),
        available_(available) {}

  [[nodiscard]] const ProfileKind& kind() const override { return kind_; }
  std::uint64_t count() override { return safe::heap_buckets.size(); }

  std::string state() override {
    if (!available_) return coverage_;
    if (safe::heap_recorder.rate() == 0) return "off: PROFAGENT_MEM_PROFILE_RATE is 0";
    return {};
  }

  std::string snapshot(const Query& query) override {
    return encoder::gzipped_pprof(profile(read(), parse_symbol_wish(query)));
  }
  std::string text(std::int64_t debug, const Query& query) override;
  std::unique_ptr<Collection> begin(double seconds, const Query& query) override;

  [[nodiscard]] static Reading read();
  [[nodiscard]] encoder::Profile profile(const Reading& reading, const SymbolWish& wish);

 private:
  const ProfileKind& kind_;
  std::string_view default_type_;
  SymbolSources& symbols_;
  std::string coverage_;
  bool available_;
};

Reading HeapSource::read() {
  // Here because a client passes by now and then, and nobody else does.
  safe::threads.reclaim();
  return read_rows();
}

encoder::Profile HeapSource::profile(const Reading& reading, const SymbolWish& wish) {
  encoder::Profile profile(kSampleTypes);
  profile.set_time(reading.time);
  profile.set_period({"space", "bytes"}, static_cast<std::int64_t>(safe::heap_recorder.rate()));
  profile.set_default_sample_type(default_type_);
  profile.add_comment(coverage_);
  if (const std::string why = state(); !why.empty()) profile.add_comment(why);
  for (const std::string& loss : losses()) profile.add_comment(loss);

  const ReadableStacks stacks(symbols_, wish, stacks_of(reading.rows), LeafFrames::kWithoutAllocator);
  const std::vector<encoder::LocationIndex> locations = stacks.describe(profile);
  const encoder::StringId bytes = profile.intern("bytes");

  std::vector<std::uint32_t> positions;
  std::vector<encoder::LocationIndex> stack;
  for (const Row& row : reading.rows) {
    stacks.positions(row.stack, positions);
    stack.clear();
    for (const std::uint32_t position : positions) stack.push_back(locations[position]);
    const encoder::HeapAmount allocated = encoder::scale_heap_sample(row.allocations, row.size, row.rate);
    const encoder::HeapAmount live = encoder::scale_heap_sample(row.live, row.size, row.rate);
    const std::int64_t values[] = {allocated.objects, allocated.bytes, live.objects, live.bytes};
    const encoder::Label label{.key = bytes, .number = row.size};
    profile.add_sample(stack, values, {&label, 1});
  }
  return profile;
}

// The text form has counts as sampled, and one rate for all. Rows of another rate are brought to that one.
std::int64_t as_sampled_at(std::int64_t rate, std::int64_t count, const Row& row) {
  if (row.rate == rate || count == 0) return count;
  const auto estimate = static_cast<double>(encoder::scale_heap_sample(count, row.size, row.rate).objects);
  const auto per_sample =
      static_cast<double>(encoder::scale_heap_sample(1 << 20, row.size, rate).objects) / (1 << 20);
  constexpr double kHalf = 0.5;  // rounds; libm's lround is not to be had
  const double samples = estimate / per_sample + kHalf;
  return static_cast<std::int64_t>(samples);
}

std::string HeapSource::text(std::int64_t /*debug*/, const Query& query) {
  const std::vector<Row> rows = read_rows().rows;
  const ReadableStacks stacks(symbols_, parse_symbol_wish(query), stacks_of(rows),
                              LeafFrames::kWithoutAllocator);
  const TextFrames frames(stacks);
  const auto rate = static_cast<std::int64_t>(safe::heap_recorder.rate());

  std::vector<std::vector<std::uint32_t>> positions(rows.size());
  std::vector<encoder::HeapTextRecord> records;
  records.reserve(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    stacks.positions(rows[i].stack, positions[i]);
    frames.expand(positions[i]);
    const std::int64_t allocated = as_sampled_at(rate, rows[i].allocations, rows[i]);
    const std::int64_t live = as_sampled_at(rate, rows[i].live, rows[i]);
    records.push_back({live, live * rows[i].size, allocated, allocated * rows[i].size, positions[i]});
  }

  const std::vector<std::pair<std::string, std::string>> facts = {{"Coverage", coverage_},
                                                                  {"MemProfileRate", std::to_string(rate)}};
  std::vector<encoder::TextStatistic> statistics;
  statistics.reserve(facts.size());
  for (const auto& [key, value] : facts) statistics.push_back({key, value});
  const std::vector<std::string> lost = losses();
  for (const std::string& loss : lost) statistics.push_back({"Lost", loss});

  const std::string memory_map = executable_memory_map();
  encoder::StringSink sink;
  encoder::write_heap_text({.frames = frames.frames(),
                            .records = records,
                            .rate = rate,
                            .statistics = statistics,
                            .memory_map = memory_map,
                            .heap_v2 = query.get("format") == "gperftools"},
                           sink);
  return sink.take();
}

std::unique_ptr<Collection> HeapSource::begin(double /*seconds*/, const Query& query) {
  return std::make_unique<DeltaCollection<Reading>>(
      read,
      [this, wish = parse_symbol_wish(query)](const Reading& reading) { return profile(reading, wish); });
}

}  // namespace

std::vector<std::unique_ptr<ProfileSource>> make_heap_sources(SymbolSources& symbols, std::string coverage,
                                                              bool available) {
  std::vector<std::unique_ptr<ProfileSource>> sources;
  sources.push_back(std::make_unique<HeapSource>(kAllocs, "alloc_space", symbols, coverage, available));
  sources.push_back(std::make_unique<HeapSource>(kHeap, "", symbols, coverage, available));
  const auto heap = std::make_shared<HeapSource>(kHeap, "", symbols, std::move(coverage), available);
  sources.push_back(make_since_last_source({.kind = kDeltaHeap,
                                            .read = [heap]() -> ReadableLater {
                                              return [heap,
                                                      reading = HeapSource::read()](const SymbolWish& wish) {
                                                return heap->profile(reading, wish);
                                              };
                                            },
                                            .count = [heap] { return heap->count(); },
                                            .state = [heap] { return heap->state(); },
                                            .absolute = kInUseColumns}));
  return sources;
}

}  // namespace profagent::service
