#include "agent/service/contention_rates.h"

#include <algorithm>
#include <new>

#include "agent/safe/contention_recorder.h"
#include "agent/safe/lock_waiters.h"
#include "agent/safe/settings.h"

namespace profagent::service {

using safe::contention_recorder;

ContentionRates::Request::Request(ContentionRates& rates, ContentionKind kind, std::int64_t rate, bool locks,
                                  bool holders)
    : rates_(rates), kind_(kind), rate_(rate), locks_(locks), holders_(holders) {
  // What may throw comes first.
  if (!safe::lock_waiters.prepare()) throw std::bad_alloc();
  rates_.requests_.push_back(this);
  rates_.update();
}

ContentionRates::Request::~Request() {
  std::erase(rates_.requests_, this);
  rates_.update();
}

std::int64_t ContentionRates::rate_of(ContentionKind kind, std::int64_t setting) const {
  std::int64_t rate = setting;
  for (const Request* request : requests_) {
    if (request->kind_ != kind || request->rate_ == 0) continue;
    rate = rate == 0 ? request->rate_ : std::min(rate, request->rate_);
  }
  return rate;
}

void ContentionRates::update() {
  const std::int64_t block =
      rate_of(ContentionKind::kBlock, safe::settings.block_profile_rate.load(std::memory_order_relaxed));
  const std::int64_t mutex =
      rate_of(ContentionKind::kMutex, safe::settings.mutex_profile_fraction.load(std::memory_order_relaxed));
  const auto any = [&](bool Request::*wanted) {
    return std::any_of(requests_.begin(), requests_.end(),
                       [=](const Request* request) { return request->*wanted; });
  };
  const bool holders = any(&Request::holders_);
  if ((mutex != 0 || holders) && !safe::lock_waiters.prepare()) throw std::bad_alloc();
  const bool told = contention_recorder.is_telling_holders();
  contention_recorder.set_labels(any(&Request::locks_), holders);
  if (told && !holders) safe::lock_waiters.forget_wakeables();
  contention_recorder.set_block_rate(block);
  contention_recorder.set_mutex_fraction(mutex);
}

}  // namespace profagent::service
