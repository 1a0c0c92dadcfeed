// One request's part of the CPU sampler: what was charged, and what was not, between its two ends.
#include <ctime>

#include "agent/safe/clock.h"
#include "agent/service/cpu_sampler.h"
#include "agent/service/thread_list.h"

namespace profagent::service {

namespace {

std::uint64_t cpu_now(clockid_t clock) {
  std::uint64_t nanos = 0;
  return safe::read_cpu_clock(clock, nanos) ? nanos : 0;
}

// By row.
std::vector<std::uint64_t> charged_now() {
  std::vector<std::uint64_t> charged;
  safe::cpu_buckets.for_each_id([&](safe::BucketId id, const safe::CpuBucket& row) {
    if (id >= charged.size()) charged.resize(id + 1);
    charged[id] = row.nanos.load(std::memory_order_relaxed);
  });
  return charged;
}

}  // namespace

// The clocks next to each other, here and in finish(), and here before any thread is looked at: our thread
// may be kept from the processor for long at any other place, and what the others use meanwhile is in the
// window.
CpuSampler::Window::Window(CpuSampler& sampler, std::uint64_t period, bool by_tid)
    : sampler_(sampler),
      period_(period),
      by_tid_(by_tid),
      charged_before_(charged_now()),
      process_before_(cpu_now(CLOCK_PROCESS_CPUTIME_ID)),
      own_before_(cpu_now(CLOCK_THREAD_CPUTIME_ID)),
      began_(safe::now_by(CLOCK_REALTIME)),
      began_monotonic_(safe::monotonic_now()) {}

CpuSampler::Window::~Window() {
  sampler_.close(*this);
}

void CpuSampler::Window::begin() {
  uncharged_before_.reserve(sampler_.threads_.size());
  for (const Thread& thread : sampler_.threads_) uncharged_before_.push_back(uncharged_of(thread));
  departed_before_ = sampler_.departed_;
}

// By the process' clock, so that nobody can be forgotten: threads that came and went unseen are in it.
std::uint64_t CpuSampler::Window::program_used() const {
  const std::uint64_t process = cpu_now(CLOCK_PROCESS_CPUTIME_ID) - process_before_;
  const std::uint64_t own = cpu_now(CLOCK_THREAD_CPUTIME_ID) - own_before_;
  return process > own ? process - own : 0;
}

CpuSampler::Window::Result CpuSampler::Window::finish() {
  sampler_.scan(false);
  sampler_.settle();
  Result result;
  result.charges = charges();
  const std::uint64_t used = program_used();
  result.duration = safe::monotonic_now() - began_monotonic_;
  result.uncharged = uncharged();
  std::uint64_t known = 0;
  for (const Charge& charge : result.charges) known += charge.nanos;
  for (const Uncharged& thread : result.uncharged) known += thread.nanos;
  // Every thread has up to a period and a tick of it at any time, which says nothing.
  constexpr std::uint64_t kWorthTelling = 50;   // one in so many
  constexpr std::uint64_t kTicks = 20'000'000;  // ns
  const std::uint64_t rest = used > known ? used - known : 0;
  if (rest > 2 * period_ + kTicks && rest > used / kWorthTelling) {
    result.uncharged.push_back({{}, 0, NotSampled::kTooShort, rest});
  }
  return result;
}

std::vector<CpuSampler::Charge> CpuSampler::Window::charges() const {
  std::vector<Charge> charges;
  safe::cpu_buckets.for_each_id([&](safe::BucketId id, const safe::CpuBucket& row) {
    const std::uint64_t before = id < charged_before_.size() ? charged_before_[id] : 0;
    const std::uint64_t now = row.nanos.load(std::memory_order_relaxed);
    if (now > before) charges.push_back({row, now - before});
  });
  return charges;
}

std::vector<CpuSampler::Uncharged> CpuSampler::Window::uncharged() const {
  std::vector<Uncharged> result;
  for (std::size_t i = 0; i < sampler_.threads_.size(); ++i) {
    const Thread& thread = sampler_.threads_[i];
    const std::uint64_t before = i < uncharged_before_.size() ? uncharged_before_[i] : 0;
    const std::uint64_t now = uncharged_of(thread);
    if (now <= before) continue;
    const NotSampled why = thread.why == NotSampled::kNoTimer ? thread.why : thread.uncharged_why;
    // Most threads get their name after they were seen first.
    result.push_back({read_thread_name(thread.tid), thread.tid, why, now - before});
  }
  for (const auto& [key, nanos] : sampler_.departed_) {
    const auto before = departed_before_.find(key);
    const std::uint64_t then = before == departed_before_.end() ? 0 : before->second;
    if (nanos > then) result.push_back({to_thread_name(key.first), 0, key.second, nanos - then});
  }
  return result;
}

}  // namespace profagent::service
