// The agent's own numbers, one relaxed atomic each. Any thread, signal handlers too.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

namespace profagent::safe {

using Counter = std::atomic<std::uint64_t>;

struct Counters {
#define PROFAGENT_COUNTER(name, sentence) Counter name{0};
#include "agent/safe/counters.def"
#undef PROFAGENT_COUNTER
};

extern constinit Counters counters;

inline void count(Counter& counter) noexcept {
  counter.fetch_add(1, std::memory_order_relaxed);
}

// Calls visit(name, sentence, value) for each, in the table's order.
template <typename Visit>
void for_each_counter(Visit visit) {
#define PROFAGENT_COUNTER(name, sentence) \
  visit(std::string_view(#name), std::string_view(sentence), counters.name.load(std::memory_order_relaxed));
#include "agent/safe/counters.def"
#undef PROFAGENT_COUNTER
}

}  // namespace profagent::safe
