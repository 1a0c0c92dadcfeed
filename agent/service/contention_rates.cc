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

ContentionRates::~ContentionRates() {
  requests_.clear();
  update();
}

ContentionRates::Request::~Request() {
  std::erase(rates_.requests_, this);
  rates_.update();
}

namespace {

std::int64_t setting_of(ContentionKind kind) {
  const safe::Setting& setting = kind == ContentionKind::kBlock ? safe::settings.block_profile_rate
                                                                : safe::settings.mutex_profile_fraction;
  return setting.load(std::memory_order_relaxed);
}

}  // namespace

std::int64_t ContentionRates::rate_of(ContentionKind kind) const {
  std::int64_t rate = setting_of(kind);
  for (const Request* request : requests_) {
    if (request->kind_ != kind || request->rate_ == 0) continue;
    rate = rate == 0 ? request->rate_ : std::min(rate, request->rate_);
  }
  return rate;
}

std::optional<std::int64_t> ContentionRates::requested(ContentionKind kind) const {
  const std::int64_t rate = rate_of(kind);
  return rate == setting_of(kind) ? std::nullopt : std::optional(rate);
}

void ContentionRates::update() noexcept {
  const std::int64_t block = rate_of(ContentionKind::kBlock);
  const std::int64_t mutex = rate_of(ContentionKind::kMutex);
  const safe::ContentionLabels always = safe::contention_labels();
  const auto any = [&](bool Request::*wanted) {
    return std::any_of(requests_.begin(), requests_.end(),
                       [=](const Request* request) { return request->*wanted; });
  };
  const bool wants_holders = always.holders || any(&Request::holders_);
  const bool has_waiters = (mutex == 0 && !wants_holders) || safe::lock_waiters.prepare();
  const bool holders = wants_holders && has_waiters;
  const bool told = contention_recorder.is_telling_holders();
  contention_recorder.set_labels({.locks = always.locks || any(&Request::locks_), .holders = holders});
  if (told && !holders) safe::lock_waiters.forget_wakeables();
  contention_recorder.set_block_rate(block);
  contention_recorder.set_mutex_fraction(has_waiters ? mutex : 0);
}

}  // namespace profagent::service
