#include "agent/service/wall_profile.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "agent/safe/clock.h"
#include "agent/service/hertz.h"
#include "agent/service/stacks.h"
#include "agent/service/text_parts.h"
#include "encoder/pprof.h"

namespace profagent::service {

namespace {

constexpr encoder::TypeAndUnit kSampleTypes[] = {{"samples", "count"}, {"wall", "nanoseconds"}};
constexpr std::string_view kOtherPaths[] = {"/debug/fgprof"};
constexpr ProfileKind kWall{
    .name = "wall",
    .sentence =
        "Where all threads spend their time, running or waiting, over the seconds that the request "
        "names (30 by default).",
    .timing = Timing::kOverTime,
    .default_seconds = 30,
    .other_paths = kOtherPaths};

constexpr std::int64_t kNanosPerMillisecond = 1'000'000;
constexpr std::int64_t kHertz = 100;

struct WallRequest {
  std::int64_t period;  // ns
  bool by_tid;
  SymbolWish symbols;
};

WallRequest parse(const Query& query) {
  return {safe::kNanosPerSecond / hertz_of(query, kHertz), parse_int_or_zero(query.get("tids")) != 0,
          parse_symbol_wish(query)};
}

class WallCollection final : public Collection {
 public:
  WallCollection(SymbolSources& symbols, WallSampler& sampler, const WallRequest& request, double seconds)
      : symbols_(symbols),
        sampler_(sampler),
        wish_(request.symbols),
        period_(request.period),
        began_(safe::now_by(CLOCK_REALTIME)),
        window_(sampler.open(request.period, request.by_tid)),
        end_(safe::monotonic_now() + safe::to_nanos(seconds)) {}

  [[nodiscard]] bool times_itself() const override { return true; }
  double tend() override;
  std::string finish() override;

 private:
  void add_rows(encoder::Profile& profile, const WallTable& table) const;

  SymbolSources& symbols_;
  WallSampler& sampler_;
  SymbolWish wish_;
  std::int64_t period_;
  std::int64_t began_;  // unix, ns
  std::unique_ptr<WallSampler::Window> window_;
  std::int64_t end_;  // CLOCK_MONOTONIC, ns
};

void WallCollection::add_rows(encoder::Profile& profile, const WallTable& table) const {
  const ReadableStacks stacks(symbols_, wish_, table.stacks());
  const std::vector<encoder::LocationIndex> locations = stacks.describe(profile);
  const encoder::StringId thread = profile.intern("thread");
  const encoder::StringId state = profile.intern("state");
  const encoder::StringId tid = profile.intern("tid");

  std::map<std::string_view, std::int64_t> obstacles;
  std::vector<std::uint32_t> positions;
  std::vector<encoder::LocationIndex> stack;
  for (const auto& [key, sum] : table.rows()) {
    stacks.positions(table.stacks()[key.stack], positions);
    stack.clear();
    if (!key.obstacle.empty()) {
      stack.push_back(profile.add_synthetic_location(key.obstacle));
      obstacles[key.obstacle] += sum.nanos;
    }
    for (const std::uint32_t position : positions) stack.push_back(locations[position]);
    if (stack.empty()) stack.push_back(profile.add_synthetic_location("[unknown]"));
    const encoder::Label labels[] = {{.key = thread, .text = profile.intern(key.thread.text())},
                                     {.key = state, .text = profile.intern(key.state)},
                                     {.key = tid, .number = key.tid}};
    const std::int64_t values[] = {static_cast<std::int64_t>(sum.looks), sum.nanos};
    profile.add_sample(stack, values, labels);
  }
  for (const auto& [obstacle, nanos] : obstacles) {
    profile.add_comment(std::to_string(nanos / kNanosPerMillisecond) +
                        " ms without a stack: " + std::string(obstacle));
  }
}

double WallCollection::tend() {
  if (safe::monotonic_now() >= end_) return window_->wind_up();
  const double pause = sampler_.tend();
  const std::int64_t left = std::max<std::int64_t>(end_ - safe::monotonic_now(), 1);
  return std::min(pause, safe::to_seconds(left));
}

std::string WallCollection::finish() {
  const WallSampler::Window::Result result = window_->finish();
  encoder::Profile profile(kSampleTypes);
  profile.set_time(began_);
  profile.set_duration(result.nanos);
  profile.set_period(kSampleTypes[1], period_);
  profile.set_default_sample_type(kSampleTypes[1].type);
  window_.reset();
  add_rows(profile, result.table);
  profile.add_comment("every thread was looked at " + std::to_string(result.rounds) + " times");
  profile.add_comment("looks came " + std::to_string(result.late / kNanosPerMillisecond) +
                      " ms late, in all");
  for (const std::string& loss : losses()) profile.add_comment(loss);
  return encoder::gzipped_pprof(profile);
}

class WallSource final : public ProfileSource {
 public:
  WallSource(SymbolSources& symbols, WallSampler& sampler) : symbols_(symbols), sampler_(sampler) {}

  [[nodiscard]] const ProfileKind& kind() const override { return kWall; }
  // The threads that are looked at, while it runs.
  std::uint64_t count() override { return sampler_.thread_count(); }
  std::string state() override { return sampler_.is_running() ? "running" : std::string(); }
  bool is_ready() override { return true; }
  std::unique_ptr<Collection> begin(double seconds, const Query& query) override {
    return std::make_unique<WallCollection>(symbols_, sampler_, parse(query), seconds);
  }

 private:
  SymbolSources& symbols_;
  WallSampler& sampler_;
};

}  // namespace

std::unique_ptr<ProfileSource> make_wall_source(SymbolSources& symbols, WallSampler& sampler) {
  return std::make_unique<WallSource>(symbols, sampler);
}

}  // namespace profagent::service
