#include "agent/service/cpu_profile.h"

#include <array>
#include <map>
#include <span>
#include <string>
#include <utility>

#include "agent/safe/clock.h"
#include "agent/safe/settings.h"
#include "agent/service/hertz.h"
#include "agent/service/stacks.h"
#include "agent/service/text_parts.h"
#include "encoder/cpu_binary.h"
#include "encoder/pprof.h"

namespace profagent::service {

namespace {

constexpr encoder::TypeAndUnit kSampleTypes[] = {{"samples", "count"}, {"cpu", "nanoseconds"}};
constexpr ProfileKind kProfile{
    .name = "profile",
    .sentence =
        "Where CPU time is used, by all threads, over the seconds that the request names (30 by default).",
    .timing = Timing::kOverTime,
    .default_seconds = 30};

// What a request may say besides its seconds.
struct CpuRequest {
  std::int64_t period;  // ns
  bool by_tid;
  bool for_gperftools;
  SymbolWish symbols;
};

CpuRequest parse(const Query& query) {
  const std::int64_t hertz = hertz_of(query, safe::settings.cpu_profile_rate.load(std::memory_order_relaxed));
  const std::string_view format = query.get("format");
  if (!format.empty() && format != "gperftools")
    throw BadRequest("invalid value for \"format\" - may only be \"gperftools\"");
  return {safe::kNanosPerSecond / hertz, parse_int_or_zero(query.get("tids")) != 0, !format.empty(),
          parse_symbol_wish(query)};
}

// Whole samples out of CPU time: the time may have been charged at a finer rate than this request's, because
// others ran at the same time, and what one row leaves over goes to the next, so that the total is kept.
class Samples {
 public:
  explicit Samples(std::int64_t period) : period_(period) {}
  std::int64_t of(std::uint64_t nanos) {
    const std::int64_t due = static_cast<std::int64_t>(nanos) + rest_;
    rest_ = due % period_;
    return due / period_;
  }

 private:
  std::int64_t period_;
  std::int64_t rest_ = 0;
};

std::string frame_of(NotSampled why) {
  return "[not sampled: " + std::string(text_of(why)) + "]";
}

class CpuCollection final : public Collection {
 public:
  CpuCollection(SymbolSources& symbols, CpuSampler& sampler, const CpuRequest& request)
      : symbols_(symbols),
        sampler_(sampler),
        request_(request),
        window_(sampler.open(static_cast<std::uint64_t>(request.period), request.by_tid)) {}

  double tend() override { return sampler_.tend(); }
  std::string finish() override;

 private:
  // The labels of a thread, in place.
  std::span<const encoder::Label> labels(encoder::Profile& profile, const safe::ThreadName& name, pid_t tid);
  void add_charges(encoder::Profile& profile, const std::vector<CpuSampler::Charge>& charges);
  void add_uncharged(encoder::Profile& profile, const std::vector<CpuSampler::Uncharged>& uncharged);

  SymbolSources& symbols_;
  CpuSampler& sampler_;
  CpuRequest request_;
  std::unique_ptr<CpuSampler::Window> window_;
  std::array<encoder::Label, 2> labels_;
};

std::span<const encoder::Label> CpuCollection::labels(encoder::Profile& profile, const safe::ThreadName& name,
                                                      pid_t tid) {
  labels_[0] = {.key = profile.intern("thread"), .text = profile.intern(name.text())};
  labels_[1] = {.key = profile.intern("tid"), .number = tid};
  return std::span(labels_).first(request_.by_tid && tid != 0 ? 2 : 1);
}

void CpuCollection::add_charges(encoder::Profile& profile, const std::vector<CpuSampler::Charge>& charges) {
  std::vector<safe::StackId> ids;
  ids.reserve(charges.size());
  for (const CpuSampler::Charge& charge : charges) ids.push_back(charge.key.stack);
  const ReadableStacks stacks(symbols_, request_.symbols, ids, LeafFrames::kAll);
  const std::vector<encoder::LocationIndex> locations = stacks.describe(profile);

  Samples samples(request_.period);
  std::vector<std::uint32_t> positions;
  std::vector<encoder::LocationIndex> stack;
  for (const CpuSampler::Charge& charge : charges) {
    const std::int64_t count = samples.of(charge.nanos);
    if (count == 0) continue;
    stacks.positions(charge.key.stack, positions);
    stack.clear();
    for (const std::uint32_t position : positions) stack.push_back(locations[position]);
    if (charge.key.stack == safe::kNoStack)
      stack.push_back(profile.add_synthetic_location(frame_of(NotSampled::kTooShort)));
    const std::int64_t values[] = {count, count * request_.period};
    profile.add_sample(stack, values, labels(profile, charge.key.thread, charge.key.tid));
  }
}

void CpuCollection::add_uncharged(encoder::Profile& profile,
                                  const std::vector<CpuSampler::Uncharged>& uncharged) {
  Samples samples(request_.period);
  std::map<NotSampled, std::pair<std::size_t, std::int64_t>> sums;
  for (const CpuSampler::Uncharged& thread : uncharged) {
    const std::int64_t count = samples.of(thread.nanos);
    if (count == 0) continue;
    const encoder::LocationIndex location = profile.add_synthetic_location(frame_of(thread.why));
    const std::int64_t values[] = {count, count * request_.period};
    profile.add_sample({&location, 1}, values, labels(profile, thread.thread, thread.tid));
    sums[thread.why].first += 1;
    sums[thread.why].second += values[1];
  }
  for (const auto& [why, sum] : sums) {
    const std::string threads = why == NotSampled::kTooShort ? "" : std::to_string(sum.first) + " threads, ";
    profile.add_comment(threads + std::to_string(sum.second / 1'000'000) +
                        " ms of CPU time without a stack: " + std::string(text_of(why)));
  }
  if (sums.count(NotSampled::kNoTimer) != 0) {
    profile.add_comment(
        "at most " + std::to_string(sampler_.most_timers()) +
        " timers (a quarter of RLIMIT_SIGPENDING, at most 1024), which the threads that run take in turns");
  }
}

std::string CpuCollection::finish() {
  encoder::Profile profile(kSampleTypes);
  const CpuSampler::Window::Result result = window_->finish();
  profile.set_time(window_->began());
  profile.set_duration(result.duration);
  profile.set_period({"cpu", "nanoseconds"}, request_.period);
  window_.reset();
  add_charges(profile, result.charges);
  add_uncharged(profile, result.uncharged);
  for (const std::string& loss : losses()) profile.add_comment(loss);
  if (!request_.for_gperftools) return encoder::gzipped_pprof(profile);
  encoder::StringSink sink;
  encoder::write_cpu_binary(profile, executable_memory_map(), sink);
  return sink.take();
}

class CpuSource final : public ProfileSource {
 public:
  CpuSource(SymbolSources& symbols, CpuSampler& sampler) : symbols_(symbols), sampler_(sampler) {}

  [[nodiscard]] const ProfileKind& kind() const override { return kProfile; }
  std::uint64_t count() override { return safe::cpu_buckets.size(); }
  std::string state() override { return {}; }
  std::unique_ptr<Collection> begin(double /*seconds*/, const Query& query) override {
    return std::make_unique<CpuCollection>(symbols_, sampler_, parse(query));
  }

 private:
  SymbolSources& symbols_;
  CpuSampler& sampler_;
};

}  // namespace

std::unique_ptr<ProfileSource> make_cpu_source(SymbolSources& symbols, CpuSampler& sampler) {
  return std::make_unique<CpuSource>(symbols, sampler);
}

}  // namespace profagent::service
