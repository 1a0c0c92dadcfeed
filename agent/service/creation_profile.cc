#include "agent/service/creation_profile.h"

#include <string>
#include <string_view>
#include <vector>

#include "agent/safe/clock.h"
#include "agent/safe/creation_recorder.h"
#include "agent/safe/creator_buckets.h"
#include "agent/safe/stack_table.h"
#include "agent/service/delta_collection.h"
#include "agent/service/live_threads.h"
#include "agent/service/stacks.h"
#include "agent/service/text_parts.h"
#include "encoder/pprof.h"
#include "encoder/text.h"

namespace profagent::service {

namespace {

constexpr encoder::TypeAndUnit kSampleTypes[] = {{"threadcreate", "count"}};
constexpr ProfileKind kThreadCreate{
    .name = "threadcreate",
    .sentence =
        "Where threads were created since the start; with ?live=1 where those that still exist were."};

constexpr std::string_view kMainThread = "[main thread]";
constexpr std::string_view kUnknownCreator = "[unknown creator]";

struct Row {
  safe::StackId stack = safe::kNoStack;
  std::string_view frame;  // in place of a stack
  std::int64_t threads = 0;
};

struct Reading {
  std::int64_t time = safe::now_by(CLOCK_REALTIME);
  std::vector<Row> rows;
  bool complete = true;

  void add(safe::StackId stack, std::int64_t threads) {
    if (threads != 0) rows.push_back({stack, {}, threads});
  }
  void add(std::string_view frame, std::int64_t threads) {
    if (threads != 0) rows.push_back({safe::kNoStack, frame, threads});
  }
};

Reading read_created() {
  Reading rows;
  safe::creator_buckets.for_each([&](const safe::CreatorBucket& row) {
    const std::uint64_t created = row.created.load(std::memory_order_acquire);
    rows.add(row.stack, static_cast<std::int64_t>(created));
  });
  rows.add(safe::kOverflowStack, static_cast<std::int64_t>(safe::creation_recorder.overflow()));
  return rows;
}

Reading read_live() {
  Reading rows;
  const LiveThreads live = find_live_threads();
  for (const auto& [creator, threads] : live.created) {
    rows.add(creator == 0 ? safe::kOverflowStack : safe::creator_buckets[creator].stack, threads);
  }
  rows.add(kMainThread, live.has_main ? 1 : 0);
  rows.add(kUnknownCreator, live.unknown);
  rows.complete = live.handles_are_readable;
  return rows;
}

Reading read_rows(bool live) {
  return live ? read_live() : read_created();
}

bool asks_for_live(const Query& query) {
  return parse_int_or_zero(query.get("live")) != 0;
}

std::vector<safe::StackId> stacks_of(const std::vector<Row>& rows) {
  std::vector<safe::StackId> stacks;
  stacks.reserve(rows.size());
  for (const Row& row : rows) stacks.push_back(row.stack);
  return stacks;
}

class CreationSource final : public ProfileSource {
 public:
  explicit CreationSource(SymbolSources& symbols) : symbols_(symbols) {}

  [[nodiscard]] const ProfileKind& kind() const override { return kThreadCreate; }
  std::uint64_t count() override { return safe::creator_buckets.size(); }
  std::string state() override { return {}; }
  std::string snapshot(const Query& query) override {
    return encoder::gzipped_pprof(profile(read_rows(asks_for_live(query)), parse_symbol_wish(query)));
  }
  std::string text(std::int64_t debug, const Query& query) override;
  std::unique_ptr<Collection> begin(double seconds, const Query& query) override;

  [[nodiscard]] encoder::Profile profile(const Reading& rows, const SymbolWish& wish);

 private:
  SymbolSources& symbols_;
};

encoder::Profile CreationSource::profile(const Reading& rows, const SymbolWish& wish) {
  encoder::Profile profile(kSampleTypes);
  profile.set_time(rows.time);
  profile.set_period(kSampleTypes[0], 1);
  for (const std::string& loss : losses()) profile.add_comment(loss);

  if (!rows.complete)
    profile.add_comment("this kernel does not tell which threads still exist: no creator is known");
  const ReadableStacks stacks(symbols_, wish, stacks_of(rows.rows), LeafFrames::kAll);
  const std::vector<encoder::LocationIndex> locations = stacks.describe(profile);
  std::vector<std::uint32_t> positions;
  std::vector<encoder::LocationIndex> stack;
  for (const Row& row : rows.rows) {
    stacks.positions(row.stack, positions);
    stack.clear();
    for (const std::uint32_t position : positions) stack.push_back(locations[position]);
    if (!row.frame.empty()) stack.push_back(profile.add_synthetic_location(row.frame));
    profile.add_sample(stack, {&row.threads, 1});
  }
  return profile;
}

std::string CreationSource::text(std::int64_t /*debug*/, const Query& query) {
  const Reading rows = read_rows(asks_for_live(query));
  const ReadableStacks stacks(symbols_, parse_symbol_wish(query), stacks_of(rows.rows), LeafFrames::kAll);
  const TextFrames of_stacks(stacks);
  std::vector<encoder::TextFrame> frames(of_stacks.frames().begin(), of_stacks.frames().end());
  std::vector<std::vector<std::uint32_t>> positions(rows.rows.size());
  std::vector<encoder::CountTextRecord> records;
  records.reserve(rows.rows.size());
  for (std::size_t i = 0; i < rows.rows.size(); ++i) {
    const Row& row = rows.rows[i];
    stacks.positions(row.stack, positions[i]);
    of_stacks.expand(positions[i]);
    if (!row.frame.empty()) {
      positions[i].push_back(static_cast<std::uint32_t>(frames.size()));
      encoder::TextFrame frame;
      frame.pc = encoder::synthetic_address(row.frame);
      frame.function = row.frame;
      frames.push_back(frame);
    }
    records.push_back({row.threads, positions[i], {}});
  }
  const std::string memory_map = executable_memory_map();
  encoder::StringSink sink;
  encoder::write_count_text(
      {.name = kThreadCreate.name, .frames = frames, .records = records, .memory_map = memory_map}, sink);
  return sink.take();
}

std::unique_ptr<Collection> CreationSource::begin(double /*seconds*/, const Query& query) {
  return std::make_unique<DeltaCollection<Reading>>(
      [live = asks_for_live(query)] { return read_rows(live); },
      [this, wish = parse_symbol_wish(query)](const Reading& rows) { return profile(rows, wish); });
}

}  // namespace

std::unique_ptr<ProfileSource> make_creation_source(SymbolSources& symbols) {
  return std::make_unique<CreationSource>(symbols);
}

}  // namespace profagent::service
