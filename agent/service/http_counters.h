// What the HTTP service has counted since the program's start. Written by our thread, read by any.
#pragma once

#include <atomic>
#include <cstdint>

namespace profagent::service {

struct ServiceCounters {
  std::atomic<std::uint64_t> connections{0};
  std::atomic<std::uint64_t> connections_open{0};
  std::atomic<std::uint64_t> connections_over_limit{0};
  std::atomic<std::uint64_t> connections_crowded_out{0};  // of strangers, by others
  std::atomic<std::uint64_t> requests{0};
  std::atomic<std::uint64_t> requests_refused{0};    // 401, 403
  std::atomic<std::uint64_t> requests_broken{0};     // not HTTP, too large, too slow
  std::atomic<std::uint64_t> requests_cancelled{0};  // the client left while we collected
  std::atomic<std::uint64_t> errors{0};              // 500
  std::atomic<std::uint64_t> restarts{0};            // an exception reached the loop
};

inline void count(std::atomic<std::uint64_t>& counter) {
  counter.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace profagent::service
