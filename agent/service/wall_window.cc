// One request's part of the wall sampler: what its threads are charged with, between its two ends.
#include <algorithm>
#include <utility>

#include "agent/safe/clock.h"
#include "agent/service/text_parts.h"
#include "agent/service/wall_sampler.h"

namespace profagent::service {

namespace {

constexpr std::int64_t kMillisecond = 1'000'000;
// At most so long at a time: what others notice of it.
constexpr std::int64_t kSlice = 5 * kMillisecond;
// For the answers that are to come when all else is done.
constexpr std::int64_t kLastPatience = 20 * kMillisecond;
constexpr double kAtOnce = 1e-6;  // s
constexpr double kBetweenLooks = 0.001;
// Any wake-up takes a little.
constexpr std::int64_t kLate = kMillisecond;

}  // namespace

std::unique_ptr<WallSampler::Window> WallSampler::open(std::int64_t period, bool by_tid) {
  // std::make_unique cannot see the constructor.
  std::unique_ptr<Window> window(new Window(*this, period, by_tid));
  window->begin_ = safe::monotonic_now();
  // Looks from before it are not in it.
  for (auto& [tid, thread] : threads_)
    if (thread.looks != 0) stay_until(thread, window->begin_);
  windows_.push_back(window.get());
  if (windows_.size() == 1) start(window->begin_);
  set_next_tick();
  return window;
}

void WallSampler::close(const Window& window) {
  std::erase(windows_, &window);
  if (windows_.empty()) stop();
}

std::int64_t WallSampler::period() const {
  const auto shortest =
      std::min_element(windows_.begin(), windows_.end(),
                       [](const Window* a, const Window* b) { return a->period_ < b->period_; });
  return (*shortest)->period_;
}

WallSampler::Window::~Window() {
  sampler_.close(*this);
}

void WallSampler::Window::begin_end() {
  note_late(safe::monotonic_now() - sampler_.next_tick_);
  sampler_.list();
  end_ = safe::monotonic_now();
  result_.nanos = end_ - begin_;
  unsettled_.reserve(sampler_.threads_.size());
  for (const auto& [tid, thread] : sampler_.threads_) unsettled_.push_back(tid);
}

// True: there are more.
bool WallSampler::Window::settle_some() {
  const std::int64_t slice_end = safe::monotonic_now() + kSlice;
  while (!unsettled_.empty() && safe::monotonic_now() < slice_end) {
    const auto thread = sampler_.threads_.find(unsettled_.back());
    unsettled_.pop_back();
    if (thread != sampler_.threads_.end()) sampler_.settle(thread->second, end_);
  }
  return !unsettled_.empty();
}

double WallSampler::Window::wind_up() {
  if (end_ == kOpen) {
    begin_end();
    return kAtOnce;
  }
  if (sampler_.look_at_newborn() || settle_some()) return kAtOnce;
  if (last_patience_end_ == 0) last_patience_end_ = safe::monotonic_now() + kLastPatience;
  sampler_.collect_answers();
  const auto is_owed_by = [&](const auto& entry) {
    const std::vector<Stay>& owed = entry.second.owed;
    return std::any_of(owed.begin(), owed.end(), [&](const Stay& stay) { return is_owed(stay); });
  };
  const bool waits = safe::monotonic_now() < last_patience_end_ &&
                     std::any_of(sampler_.threads_.begin(), sampler_.threads_.end(), is_owed_by);
  return waits ? kBetweenLooks : 0;
}

// What others are owed remains to be answered.
WallSampler::Window::Result WallSampler::Window::finish() {
  for (const auto& [tid, thread] : sampler_.threads_)
    for (const Stay& stay : thread.owed) charge(thread, place_without_answer(thread), stay);
  Result result = std::move(result_);
  sampler_.close(*this);
  return result;
}

void WallSampler::Window::note_late(std::int64_t late) {
  if (late >= kLate && end_ == kOpen) result_.late += late;
}

void WallSampler::Window::charge(const Thread& thread, const WallPlace& place, const Stay& stay) {
  const std::int64_t nanos = std::min(stay.to, end_) - std::max(stay.from, begin_);
  if (nanos > 0) result_.table.add(place, thread.name, by_tid_ ? thread.tid : 0, {stay.looks, nanos});
}

void WallSampler::charge(const Thread& thread, const WallPlace& place, const Stay& stay) {
  for (Window* window : windows_) window->charge(thread, place, stay);
}

}  // namespace profagent::service
