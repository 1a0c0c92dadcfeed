#include "agent/service/threads_profile.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "agent/safe/clock.h"
#include "agent/safe/sys.h"
#include "agent/service/delta_collection.h"
#include "agent/service/hex.h"
#include "agent/service/stacks.h"
#include "agent/service/text_parts.h"
#include "agent/service/thread_list.h"
#include "encoder/goroutine_text.h"
#include "encoder/pprof.h"
#include "encoder/text.h"

namespace profagent::service {

namespace {

using safe::WaitKind;

constexpr encoder::TypeAndUnit kSampleTypes[] = {{"goroutine", "count"}};
constexpr std::string_view kOtherPaths[] = {"/debug/pprof/threads"};
constexpr ProfileKind kThreads{.name = "goroutine",
                               .sentence = "Where every thread stands now, and what it waits for.",
                               .other_paths = kOtherPaths};

constexpr double kAtOnce = 1e-6;  // s

constexpr std::string_view kUnknown = "[unknown]";
constexpr std::string_view kOwnFrame = "profagent.serve";

// The words of Go's for why a goroutine waits, by which tools sort them.
std::string_view go_state(const ThreadRow& row) {
  switch (row.kind) {
    case WaitKind::kMutex:
      return "sync.Mutex.Lock";
    case WaitKind::kCond:
      return "sync.Cond.Wait";
    case WaitKind::kRwlock:
    case WaitKind::kSemaphore:
    case WaitKind::kBarrier:
    case WaitKind::kFutex:
    case WaitKind::kJoin:
      return "semacquire";
    case WaitKind::kIo:
      return is_select(row.system_call) ? "select" : "IO wait";
    case WaitKind::kSleep:
      return "sleep";
    case WaitKind::kNone:
      break;
  }
  return row.state == "running" ? "running" : "syscall";
}

// The frames of a text: those with code, and the names that stand for what is not known.
class Texts {
 public:
  explicit Texts(const ReadableStacks& stacks) : known_(stacks) {
    frames_.assign(known_.frames().begin(), known_.frames().end());
  }
  std::uint32_t name(std::string_view name) {
    const auto [at, is_new] = names_.try_emplace(name, static_cast<std::uint32_t>(frames_.size()));
    if (is_new) {
      encoder::TextFrame frame;
      frame.pc = encoder::synthetic_address(name);
      frame.function = name;
      frames_.push_back(frame);
    }
    return at->second;
  }
  std::size_t expand(std::vector<std::uint32_t>& positions, std::size_t index = 0) const {
    return known_.expand(positions, index);
  }
  [[nodiscard]] std::span<const encoder::TextFrame> frames() const { return frames_; }

 private:
  TextFrames known_;
  std::vector<encoder::TextFrame> frames_;
  std::map<std::string_view, std::uint32_t> names_;
};

struct Reading {
  std::int64_t time;  // unix, ns
  ThreadSnapshot snapshot;
};

class ThreadsSource final : public ProfileSource {
 public:
  ThreadsSource(SymbolSources& symbols, ThreadWatch& watch) : symbols_(symbols), watch_(watch) {}

  [[nodiscard]] const ProfileKind& kind() const override { return kThreads; }
  // Without our own.
  std::uint64_t count() override {
    const std::vector<pid_t> tids = list_threads();
    return tids.size() - static_cast<std::size_t>(std::count(tids.begin(), tids.end(), safe::sys::gettid()));
  }
  std::string state() override { return {}; }
  std::unique_ptr<Collection> begin_now(std::int64_t debug, const Query& query) override;
  std::unique_ptr<Collection> begin(double seconds, const Query& query) override;

 private:
  SymbolSources& symbols_;
  ThreadWatch& watch_;
};

encoder::Profile make_profile(SymbolSources& symbols, const SymbolWish& wish, const Reading& reading) {
  encoder::Profile profile(kSampleTypes);
  profile.set_time(reading.time);
  profile.set_period(kSampleTypes[0], 1);
  const ThreadSnapshot& snapshot = reading.snapshot;
  const ReadableStacks stacks(symbols, wish, snapshot.stacks);
  const std::vector<encoder::LocationIndex> locations = stacks.describe(profile);
  const encoder::StringId thread = profile.intern("thread");
  const encoder::StringId state = profile.intern("state");

  std::map<std::string_view, std::int64_t> obstacles;
  std::vector<std::uint32_t> positions;
  std::vector<encoder::LocationIndex> stack;
  for (const ThreadRow& row : snapshot.threads) {
    stacks.positions(snapshot.stacks[row.stack], positions);
    stack.clear();
    if (!row.obstacle.empty()) {
      stack.push_back(profile.add_synthetic_location(row.obstacle));
      ++obstacles[row.obstacle];
    }
    for (const std::uint32_t position : positions) stack.push_back(locations[position]);
    const encoder::Label labels[] = {{.key = thread, .text = profile.intern(row.name.text())},
                                     {.key = state, .text = profile.intern(row.state)}};
    const std::int64_t one[] = {1};
    profile.add_sample(stack, one, labels);
  }
  for (const auto& [obstacle, count] : obstacles) {
    profile.add_comment(std::to_string(count) + " threads without a stack: " + std::string(obstacle));
  }
  return profile;
}

std::string count_text(SymbolSources& symbols, const SymbolWish& wish, const ThreadSnapshot& snapshot) {
  const ReadableStacks stacks(symbols, wish, snapshot.stacks);
  Texts texts(stacks);
  std::vector<std::vector<std::uint32_t>> positions(snapshot.threads.size());
  std::vector<std::array<encoder::TextLabel, 2>> labels(snapshot.threads.size());
  std::vector<encoder::CountTextRecord> records;
  records.reserve(snapshot.threads.size());
  for (std::size_t i = 0; i < snapshot.threads.size(); ++i) {
    const ThreadRow& row = snapshot.threads[i];
    stacks.positions(snapshot.stacks[row.stack], positions[i]);
    texts.expand(positions[i]);
    if (!row.obstacle.empty()) positions[i].insert(positions[i].begin(), texts.name(row.obstacle));
    labels[i] = {{{"state", row.state}, {"thread", row.name.text()}}};
    records.push_back({1, positions[i], labels[i]});
  }
  const std::string memory_map = executable_memory_map();
  encoder::StringSink sink;
  encoder::write_count_text(
      {.name = kThreads.name, .frames = texts.frames(), .records = records, .memory_map = memory_map}, sink);
  return sink.take();
}

// What one thread waits for, and who has that.
std::string describe(const ThreadRow& row, const std::unordered_map<pid_t, const ThreadRow*>& by_tid) {
  std::string note = std::to_string(row.tid) + " \"" + row.name.text() + "\": " + std::string(row.state);
  if (row.object != nullptr) note += " " + hex(reinterpret_cast<std::uintptr_t>(row.object));
  if (const auto holder = by_tid.find(row.holder); row.holder != 0 && holder != by_tid.end()) {
    note += ", held by " + std::to_string(row.holder) + " \"" + holder->second->name.text() + "\"";
  }
  return note;
}

std::string dump(SymbolSources& symbols, const SymbolWish& wish, const ThreadSnapshot& snapshot) {
  const ReadableStacks stacks(symbols, wish, snapshot.stacks);
  Texts texts(stacks);
  const std::int64_t now = safe::monotonic_now();
  std::unordered_map<pid_t, const ThreadRow*> by_tid;
  for (const ThreadRow& row : snapshot.threads) by_tid[row.tid] = &row;

  // Who asks comes first: that is our own thread, in the place of Go's goroutine.
  const std::uint32_t own[] = {texts.name(kOwnFrame)};
  std::vector<encoder::GoroutineTextRecord> records;
  records.push_back({.id = safe::sys::gettid(), .state = "running", .stack = own});
  std::vector<std::vector<std::uint32_t>> positions(snapshot.threads.size());
  std::vector<std::string> notes;
  for (std::size_t i = 0; i < snapshot.threads.size(); ++i) {
    const ThreadRow& row = snapshot.threads[i];
    stacks.positions(snapshot.stacks[row.stack], positions[i]);
    const std::size_t waiting = texts.expand(positions[i], row.waiting_frame);
    const std::string_view instead = row.obstacle.empty() && positions[i].empty() ? kUnknown : row.obstacle;
    if (!instead.empty()) positions[i].insert(positions[i].begin(), texts.name(instead));
    constexpr std::int64_t kNanosPerMinute = 60'000'000'000;
    records.push_back({.id = row.tid,
                       .state = go_state(row),
                       .minutes = row.blocked_since == 0 ? 0 : (now - row.blocked_since) / kNanosPerMinute,
                       .stack = positions[i],
                       .frame = static_cast<std::uint32_t>(waiting),
                       .argument = reinterpret_cast<std::uintptr_t>(row.object)});
    notes.push_back(describe(row, by_tid));
  }
  encoder::StringSink sink;
  encoder::write_goroutine_text({.frames = texts.frames(), .records = records, .notes = notes}, sink);
  return sink.take();
}

// The profile of now, or one of its texts.
class NowCollection final : public Collection {
 public:
  NowCollection(SymbolSources& symbols, ThreadWatch& watch, const SymbolWish& wish, std::int64_t debug)
      : symbols_(symbols), wish_(wish), time_(safe::now_by(CLOCK_REALTIME)), taking_(watch), debug_(debug) {}

  [[nodiscard]] bool times_itself() const override { return true; }
  double tend() override { return taking_.go_on(); }
  std::string finish() override {
    const Reading reading{time_, taking_.finish()};
    if (debug_ == 0) return encoder::gzipped_pprof(make_profile(symbols_, wish_, reading));
    return debug_ >= 2 ? dump(symbols_, wish_, reading.snapshot)
                       : count_text(symbols_, wish_, reading.snapshot);
  }

 private:
  SymbolSources& symbols_;
  SymbolWish wish_;
  std::int64_t time_;
  ThreadWatch::Taking taking_;
  std::int64_t debug_;
};

// What has changed over a time, with both ends of it taken in slices.
class ThreadsDelta final : public Collection {
 public:
  ThreadsDelta(SymbolSources& symbols, ThreadWatch& watch, const SymbolWish& wish, double seconds)
      : symbols_(symbols),
        watch_(watch),
        wish_(wish),
        length_(safe::to_nanos(seconds)),
        begin_(safe::monotonic_now()) {
    begin_taking();
  }

  [[nodiscard]] bool times_itself() const override { return true; }
  double tend() override;
  std::string finish() override {
    return encoded_delta(make_profile(symbols_, wish_, before_.value()),
                         make_profile(symbols_, wish_, after_.value()), end_ - begin_);
  }

 private:
  void begin_taking() {
    time_ = safe::now_by(CLOCK_REALTIME);
    taking_.emplace(watch_);
  }

  SymbolSources& symbols_;
  ThreadWatch& watch_;
  SymbolWish wish_;
  std::int64_t length_;  // ns
  std::int64_t begin_;   // CLOCK_MONOTONIC, ns, as the next
  std::int64_t end_ = 0;
  std::int64_t time_ = 0;                      // of what is being taken
  std::optional<ThreadWatch::Taking> taking_;  // one end or the other
  std::optional<Reading> before_;
  std::optional<Reading> after_;
};

double ThreadsDelta::tend() {
  if (taking_) {
    if (const double pause = taking_->go_on(); pause > 0) return pause;
    (before_ ? after_ : before_) = Reading{time_, taking_->finish()};
    taking_.reset();
  }
  if (after_) return 0;
  end_ = safe::monotonic_now();
  const std::int64_t left = begin_ + length_ - end_;
  if (left > 0) return safe::to_seconds(left);
  begin_taking();
  return kAtOnce;
}

std::unique_ptr<Collection> ThreadsSource::begin_now(std::int64_t debug, const Query& query) {
  return std::make_unique<NowCollection>(symbols_, watch_, parse_symbol_wish(query), debug);
}

std::unique_ptr<Collection> ThreadsSource::begin(double seconds, const Query& query) {
  return std::make_unique<ThreadsDelta>(symbols_, watch_, parse_symbol_wish(query), seconds);
}

}  // namespace

std::unique_ptr<ProfileSource> make_threads_source(SymbolSources& symbols, ThreadWatch& watch) {
  return std::make_unique<ThreadsSource>(symbols, watch);
}

}  // namespace profagent::service
