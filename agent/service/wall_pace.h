// When the wall sampler looks, and how much. On our thread only.
//
// Looks come at a random moment of each period, so no program can keep in step with them. They are paid for
// with CPU time, of which a hundredth of one processor comes in; without any left the looks wait. The first
// look at a thread cannot wait: it is owed, and most of what comes in goes there until it is paid.
#pragma once

#include <algorithm>
#include <cstdint>

#include "agent/safe/random.h"

namespace profagent::service {

class WallPace {
 public:
  // All in ns; times are those of one clock that never goes back.
  void begin(std::int64_t now) {
    earned_at_ = now;
    period_begin_ = now;
    credit_ = kMostCredit;
    debt_ = 0;
  }

  void earn(std::int64_t now) {
    const std::int64_t income = (now - earned_at_) / kShare;
    earned_at_ += income * kShare;
    const std::int64_t paid = std::min(debt_, income - income / kPartForLooks);
    debt_ -= paid;
    credit_ = std::min(credit_ + income - paid, kMostCredit);
  }
  [[nodiscard]] bool may_look() const { return credit_ > 0; }
  void spend(std::int64_t cpu) { credit_ -= cpu; }
  void owe(std::int64_t cpu) { debt_ += cpu; }

  // The time of the next looks: in the next period, or in the first one in which they can be paid for.
  [[nodiscard]] std::int64_t next(std::int64_t now, std::int64_t period) {
    const std::int64_t missing = may_look() ? 0 : 1 - credit_;
    const std::int64_t earliest = now + missing * kShare * (debt_ > 0 ? kPartForLooks : 1);
    period_begin_ += period;
    if (period_begin_ + period <= earliest) period_begin_ += (earliest - period_begin_) / period * period;
    const std::int64_t first = std::max(earliest, period_begin_);
    const auto choices = static_cast<std::uint64_t>(period_begin_ + period - first);
    return first + static_cast<std::int64_t>(safe::next_random(random_) % choices);
  }

  std::uint64_t& random() { return random_; }

 private:
  static constexpr std::int64_t kShare = 100;
  static constexpr std::int64_t kPartForLooks = 4;  // one in so many, while there are debts
  // What was not needed does not make up for a burst later.
  static constexpr std::int64_t kMostCredit = 1'000'000;

  std::int64_t credit_ = 0;
  std::int64_t debt_ = 0;
  std::int64_t earned_at_ = 0;
  std::int64_t period_begin_ = 0;
  std::uint64_t random_ = safe::make_seed(this);
};

}  // namespace profagent::service
