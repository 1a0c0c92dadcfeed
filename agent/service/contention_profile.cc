#include "agent/service/contention_profile.h"

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <utility>

#include "agent/safe/clock.h"
#include "agent/safe/contention_buckets.h"
#include "agent/safe/contention_recorder.h"
#include "agent/safe/settings.h"
#include "agent/service/delta_collection.h"
#include "agent/service/hex.h"
#include "agent/service/since_last.h"
#include "agent/service/stacks.h"
#include "agent/service/text_parts.h"
#include "encoder/pprof.h"
#include "encoder/text.h"

namespace profagent::service {

using safe::ContentionLabels;

namespace {

constexpr encoder::TypeAndUnit kSampleTypes[] = {{"contentions", "count"}, {"delay", "nanoseconds"}};

// All that tells the two profiles apart.
struct ContentionProfile {
  ProfileKind kind;
  ContentionKind contention;
  safe::ContentionBuckets& buckets;
  encoder::ContentionText::Kind text;
  std::string_view variable;
  std::string_view setting;
};

const ContentionProfile kBlock{
    .kind =
        {.name = "block",
         .sentence =
             "How long threads waited for locks, conditions, other threads and input, by where they waited."},
    .contention = ContentionKind::kBlock,
    .buckets = safe::block_buckets,
    .text = encoder::ContentionText::Kind::kBlock,
    .variable = "PROFAGENT_BLOCK_PROFILE_RATE",
    .setting = "block_profile_rate"};
const ContentionProfile kMutex{
    .kind = {.name = "mutex",
             .sentence = "How long threads waited for a lock, by where the one that held it gave it back."},
    .contention = ContentionKind::kMutex,
    .buckets = safe::mutex_buckets,
    .text = encoder::ContentionText::Kind::kMutex,
    .variable = "PROFAGENT_MUTEX_PROFILE_FRACTION",
    .setting = "mutex_profile_fraction"};

constexpr ProfileKind kDeltaBlock{
    .name = "delta_block",
    .sentence = "What block has gained since the last request for this page. For one scraper, such as Alloy.",
    .timing = Timing::kNow,
    .is_for_scraper = true};
constexpr ProfileKind kDeltaMutex{
    .name = "delta_mutex",
    .sentence = "What mutex has gained since the last request for this page. For one scraper, such as Alloy.",
    .timing = Timing::kNow,
    .is_for_scraper = true};

struct Row {
  safe::ContentionKey key;
  std::int64_t count;
  std::int64_t nanos;
};

struct Reading {
  std::int64_t time;  // unix, ns
  std::vector<Row> rows;
};

Reading read_rows(const safe::ContentionBuckets& buckets) {
  Reading reading{safe::now_by(CLOCK_REALTIME), {}};
  std::vector<Row>& rows = reading.rows;
  rows.reserve(buckets.size());
  buckets.for_each([&](const safe::ContentionBucket& row) {
    const std::uint64_t nanos = row.nanos.load(std::memory_order_acquire);
    const std::uint64_t count = row.count.load(std::memory_order_relaxed);
    rows.push_back({row, static_cast<std::int64_t>(count / safe::ContentionBucket::kCountUnit),
                    static_cast<std::int64_t>(nanos)});
  });
  return reading;
}

std::vector<safe::StackId> stacks_of(const std::vector<Row>& rows) {
  std::vector<safe::StackId> stacks;
  stacks.reserve(rows.size());
  for (const Row& row : rows) {
    stacks.push_back(row.key.stack);
    if (row.key.holder != safe::kNoStack) stacks.push_back(row.key.holder);
  }
  return stacks;
}

// A function that does nothing but to call the one that gives back: the standard library's and those of
// many others (uv_mutex_unlock, Mutex::Unlock).
bool is_wrapper(std::string_view name) {
  name = name.substr(0, name.find('('));
  if (name.starts_with("std::") || name.starts_with("__g")) return true;
  constexpr std::string_view kEnds[] = {"unlock",    "Unlock",     "signal",     "Signal", "broadcast",
                                        "Broadcast", "notify_one", "notify_all", "Notify", "_post"};
  return std::any_of(std::begin(kEnds), std::end(kEnds),
                     [=](std::string_view end) { return name.ends_with(end); });
}

// The function that gave back, whatever it called for it.
std::string_view holder_name(const ReadableStacks& stacks, std::span<const std::uint32_t> positions) {
  const auto name = [&](std::uint32_t position) -> std::string_view {
    return stacks.frames()[position].resolved.symbol->name;
  };
  for (const std::uint32_t position : positions)
    if (!is_wrapper(name(position))) return name(position);
  return positions.empty() ? std::string_view() : name(positions.front());
}

// `?labels=lock,holder`
ContentionLabels parse_labels(std::string_view text) {
  ContentionLabels labels = safe::contention_labels();
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    const std::string_view name = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
    if (name == "lock") {
      labels.locks = true;
    } else if (name == "holder") {
      labels.holders = true;
    } else {
      throw BadRequest(
          "invalid value for \"labels\" - must be \"lock\", \"holder\" or both, separated by a comma");
    }
  }
  return labels;
}

// 0: not given. Bounded like the setting that it stands in for.
std::int64_t parse_rate(std::string_view text, std::string_view setting) {
  if (text.empty()) return 0;
  const auto rate = parse_int(text);
  safe::Bounds bounds{};
  if (!rate || *rate == 0 || safe::can_change(setting, *rate, bounds) != safe::ChangeResult::kDone) {
    throw BadRequest("invalid value for \"rate\" - must be an integer from 1 to " +
                     std::to_string(bounds.maximum));
  }
  return *rate;
}

class ContentionSource final : public ProfileSource {
 public:
  ContentionSource(const ContentionProfile& what, SymbolSources& symbols, ContentionRates& rates)
      : what_(what), symbols_(symbols), rates_(rates) {}

  [[nodiscard]] const ProfileKind& kind() const override { return what_.kind; }
  std::uint64_t count() override { return what_.buckets.size(); }
  std::string state() override;
  std::string snapshot(const Query& query) override;
  std::string text(std::int64_t debug, const Query& query) override;
  std::unique_ptr<Collection> begin(double seconds, const Query& query) override;

  [[nodiscard]] Reading read() const { return read_rows(what_.buckets); }
  [[nodiscard]] encoder::Profile profile(const Reading& reading, const ContentionLabels& labels,
                                         const SymbolWish& wish);

 private:
  [[nodiscard]] std::int64_t rate() const;
  [[nodiscard]] std::map<const void*, std::string> lock_names(const std::vector<Row>& rows);

  const ContentionProfile& what_;
  SymbolSources& symbols_;
  ContentionRates& rates_;
};

class ContentionDelta final : public Collection {
 public:
  ContentionDelta(ContentionSource& source, ContentionRates& rates, ContentionKind kind, std::int64_t rate,
                  const ContentionLabels& labels, const SymbolWish& wish)
      : request_(rates, kind, rate, labels.locks, labels.holders),
        delta_([&source] { return source.read(); },
               [&source, labels, wish](const Reading& reading) {
                 return source.profile(reading, labels, wish);
               }) {}
  std::string finish() override { return delta_.finish(); }

 private:
  ContentionRates::Request request_;
  DeltaCollection<Reading> delta_;
};

std::int64_t ContentionSource::rate() const {
  return what_.contention == ContentionKind::kBlock ? safe::contention_recorder.block_rate()
                                                    : safe::contention_recorder.mutex_fraction();
}

std::string ContentionSource::state() {
  if (rate() != 0) return {};
  const std::string name(what_.kind.name);
  return "off: " + std::string(what_.variable) + " is 0. For one request: /debug/pprof/" + name +
         "?seconds=10&rate=1; from now on: curl -X PUT -H 'Content-Type: application/json' -d '{\"" +
         std::string(what_.setting) + "\": 1}' to /debug/pprof/config";
}

std::map<const void*, std::string> ContentionSource::lock_names(const std::vector<Row>& rows) {
  std::map<const void*, std::string> names;
  for (const Row& row : rows)
    if (row.key.lock != nullptr) names[row.key.lock];
  std::vector<std::uintptr_t> addresses;
  addresses.reserve(names.size());
  for (const auto& [lock, name] : names) addresses.push_back(reinterpret_cast<std::uintptr_t>(lock));
  std::vector<std::string> variables = symbols_.symbolizer.name_variables(ModuleSet::now({}), addresses);
  std::size_t next = 0;
  for (auto& [lock, name] : names) name = std::move(variables[next++]);
  return names;
}

encoder::Profile ContentionSource::profile(const Reading& reading, const ContentionLabels& labels,
                                           const SymbolWish& wish) {
  encoder::Profile profile(kSampleTypes);
  profile.set_time(reading.time);
  profile.set_period({"contentions", "count"}, 1);
  if (const std::string why = state(); !why.empty()) profile.add_comment(why);
  for (const std::string& loss : losses()) profile.add_comment(loss);

  const std::vector<Row>& rows = reading.rows;
  const ReadableStacks stacks(symbols_, wish, stacks_of(rows), LeafFrames::kAll);
  const std::vector<encoder::LocationIndex> locations = stacks.describe(profile);
  const bool tell_kind = what_.contention == ContentionKind::kBlock || labels.locks;

  const std::map<const void*, std::string> locks = labels.locks && wish.detail != SymbolDetail::kNone
                                                       ? lock_names(rows)
                                                       : std::map<const void*, std::string>();

  std::vector<std::uint32_t> positions;
  std::vector<encoder::LocationIndex> stack;
  std::vector<encoder::Label> sample_labels;
  const auto add_label = [&](std::string_view key, std::string_view value) {
    sample_labels.push_back({.key = profile.intern(key), .text = profile.intern(value)});
  };
  for (const Row& row : rows) {
    stacks.positions(row.key.stack, positions);
    stack.clear();
    for (const std::uint32_t position : positions) stack.push_back(locations[position]);
    sample_labels.clear();
    if (tell_kind) add_label("wait", safe::text_of(row.key.kind));
    if (labels.locks && row.key.lock != nullptr) {
      add_label("lock", hex(reinterpret_cast<std::uintptr_t>(row.key.lock)));
      const auto named = locks.find(row.key.lock);
      if (named != locks.end() && !named->second.empty()) add_label("lock_name", named->second);
      if (row.key.thread != safe::ThreadName{}) add_label("thread", row.key.thread.text());
    }
    if (labels.holders && row.key.holder != safe::kNoStack) {
      stacks.positions(row.key.holder, positions);
      add_label("holder", holder_name(stacks, positions));
    }
    const std::int64_t values[] = {row.count, row.nanos};
    profile.add_sample(stack, values, sample_labels);
  }
  return profile;
}

std::string ContentionSource::snapshot(const Query& query) {
  if (!query.get("rate").empty()) throw BadRequest("\"rate\" is for a time: it needs \"seconds\"");
  return encoder::gzipped_pprof(profile(read(), parse_labels(query.get("labels")), parse_symbol_wish(query)));
}

std::string ContentionSource::text(std::int64_t /*debug*/, const Query& query) {
  const std::vector<Row> rows = read().rows;
  const ReadableStacks stacks(symbols_, parse_symbol_wish(query), stacks_of(rows), LeafFrames::kAll);
  const TextFrames frames(stacks);
  // This form has no labels: what they tell apart is one record.
  struct Sum {
    std::int64_t nanos = 0;
    std::int64_t count = 0;
    std::vector<std::uint32_t> positions;
  };
  std::map<safe::StackId, Sum> sums;
  for (const Row& row : rows) {
    Sum& sum = sums[row.key.stack];
    sum.nanos += row.nanos;
    sum.count += row.count;
  }
  std::vector<encoder::ContentionTextRecord> records;
  records.reserve(sums.size());
  for (auto& [stack, sum] : sums) {
    stacks.positions(stack, sum.positions);
    frames.expand(sum.positions);
    records.push_back({sum.nanos, sum.count, sum.positions});
  }
  const std::string memory_map = executable_memory_map();
  encoder::StringSink sink;
  encoder::write_contention_text(
      {.kind = what_.text, .frames = frames.frames(), .records = records, .memory_map = memory_map}, sink);
  return sink.take();
}

std::unique_ptr<Collection> ContentionSource::begin(double /*seconds*/, const Query& query) {
  const ContentionLabels labels = parse_labels(query.get("labels"));
  return std::make_unique<ContentionDelta>(*this, rates_, what_.contention,
                                           parse_rate(query.get("rate"), what_.setting), labels,
                                           parse_symbol_wish(query));
}

}  // namespace

std::vector<std::unique_ptr<ProfileSource>> make_contention_sources(SymbolSources& symbols,
                                                                    ContentionRates& rates) {
  std::vector<std::unique_ptr<ProfileSource>> sources;
  const auto add = [&](const ContentionProfile& what, const ProfileKind& since_last) {
    sources.push_back(std::make_unique<ContentionSource>(what, symbols, rates));
    const auto source = std::make_shared<ContentionSource>(what, symbols, rates);
    sources.push_back(
        make_since_last_source({.kind = since_last,
                                .read = [source]() -> ReadableLater {
                                  return [source, reading = source->read()](const SymbolWish& wish) {
                                    return source->profile(reading, safe::contention_labels(), wish);
                                  };
                                },
                                .count = [source] { return source->count(); },
                                .state = [source] { return source->state(); }}));
  };
  add(kBlock, kDeltaBlock);
  add(kMutex, kDeltaMutex);
  return sources;
}

}  // namespace profagent::service
