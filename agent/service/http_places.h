// Who has a place among the connections. There are few, so that clients cannot use up the program's memory,
// and those that may not ask, or have not shown yet that they may, have some of their own: they crowd out
// each other and nobody else. No sockets here; on our thread only.
#pragma once

#include <chrono>
#include <cstddef>
#include <list>
#include <optional>

#include "agent/service/http_counters.h"

namespace profagent::service {

// Of those who may ask, so many are served.
inline constexpr std::size_t kMaxConnections = 64;
// Beyond those, so many are told why they get no answer. The next wait where the kernel keeps new
// connections.
inline constexpr std::size_t kMaxTurnedAway = 16;
// Of all others, so many are heard. One more ends the oldest of them.
inline constexpr std::size_t kMaxStrangers = 16;
// For as long as a request's header may take to come, nobody gives way.
inline constexpr std::chrono::seconds kHeaderDeadline(5);

enum class Standing {
  kAllowed,
  kUnproven,  // a client of another host that has not shown the token yet
  kRefused,
};

// Whoever holds a place.
class Guest {
 public:
  // Ends it. Its place is free at once.
  virtual void close() = 0;
  // Something has come that it has not looked at yet.
  [[nodiscard]] virtual bool has_unread() = 0;

 protected:
  ~Guest() = default;
};

class Place;

class Places {
 public:
  explicit Places(ServiceCounters& counters) : counters_(counters) {}

  // Whoever comes next must wait.
  [[nodiscard]] bool are_full() const { return allowed_ >= kMaxConnections + kMaxTurnedAway; }

 private:
  friend class Place;
  using Time = std::chrono::steady_clock::time_point;

  bool close_an_idle_one(Time now);
  void close_a_stranger();

  ServiceCounters& counters_;
  std::size_t allowed_ = 0;
  std::list<Place*> strangers_;  // the oldest first
  std::list<Place*> idle_;       // of the allowed: without a request in hand, longest first
};

// From its making until leave(). May close other guests when it is made and when it is let in.
class Place {
 public:
  using Time = std::chrono::steady_clock::time_point;

  Place(Places& places, Guest& guest, Standing standing, Time now);
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  ~Place() { leave(); }

  void leave() noexcept;

  // What the guest has shown meanwhile.
  void let_in(Time now);
  void refuse() noexcept;

  // Waits for a request, of which nothing has come. Not for long when others may need the place: see
  // may_stay().
  void begin_idle(Time now);
  void end_idle() noexcept;

  // One that is served, and may wait between its requests.
  [[nodiscard]] bool may_stay() const { return standing_ == Standing::kAllowed && !over_limit_; }
  // One more than are served, and no other has left meanwhile.
  [[nodiscard]] bool is_turned_away() const { return over_limit_ && places_.allowed_ > kMaxConnections; }

 private:
  friend class Places;
  using Seat = std::optional<std::list<Place*>::iterator>;

  void take_one_of_the_allowed(Time now);

  Places& places_;
  Guest& guest_;
  Standing standing_;
  bool over_limit_ = false;
  bool has_left_ = false;
  Seat among_strangers_;
  Seat among_idle_;
  Time idle_since_;
};

}  // namespace profagent::service
