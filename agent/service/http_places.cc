#include "agent/service/http_places.h"

#include <algorithm>

namespace profagent::service {

// Those on which nothing has come for as long as a header may take.
bool Places::close_an_idle_one(Time now) {
  for (const Place* place : idle_) {
    if (place->idle_since_ + kHeaderDeadline > now) return false;
    if (place->guest_.has_unread()) continue;
    place->guest_.close();
    return true;
  }
  return false;
}

// The oldest that is known not to be allowed, so that a user of this machine cannot keep other hosts' clients
// from showing their token; without one the oldest.
void Places::close_a_stranger() {
  const auto refused = std::find_if(strangers_.begin(), strangers_.end(), [](const Place* place) {
    return place->standing_ == Standing::kRefused;
  });
  count(counters_.connections_crowded_out);
  (refused != strangers_.end() ? *refused : strangers_.front())->guest_.close();
}

Place::Place(Places& places, Guest& guest, Standing standing, Time now)
    : places_(places), guest_(guest), standing_(standing) {
  if (standing_ == Standing::kAllowed) {
    take_one_of_the_allowed(now);
  } else {
    if (places_.strangers_.size() >= kMaxStrangers) places_.close_a_stranger();
    among_strangers_ = places_.strangers_.insert(places_.strangers_.end(), this);
  }
}

void Place::take_one_of_the_allowed(Time now) {
  over_limit_ = places_.allowed_ >= kMaxConnections && !places_.close_an_idle_one(now);
  if (over_limit_) count(places_.counters_.connections_over_limit);
  ++places_.allowed_;
}

void Place::leave() noexcept {
  if (has_left_) return;
  has_left_ = true;
  end_idle();
  if (among_strangers_) {
    places_.strangers_.erase(*among_strangers_);
  } else {
    --places_.allowed_;
  }
}

void Place::let_in(Time now) {
  if (!among_strangers_ || has_left_) return;
  places_.strangers_.erase(*among_strangers_);
  among_strangers_.reset();
  standing_ = Standing::kAllowed;
  take_one_of_the_allowed(now);
}

void Place::refuse() noexcept {
  if (among_strangers_) standing_ = Standing::kRefused;
}

void Place::begin_idle(Time now) {
  if (standing_ != Standing::kAllowed || has_left_) return;
  idle_since_ = now;
  among_idle_ = places_.idle_.insert(places_.idle_.end(), this);
}

void Place::end_idle() noexcept {
  if (among_idle_) places_.idle_.erase(*among_idle_);
  among_idle_.reset();
}

}  // namespace profagent::service
