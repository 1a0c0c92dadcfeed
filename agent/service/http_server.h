// HTTP on the listeners, on the calling thread, until there is a reason to end. The only file that sees the
// HTTP library is http_server.cc.
//
// A request that waits (?seconds=N) holds a timer and blocks nobody. A client that goes away cancels what it
// asked for within a second. Whatever a client sends costs it its own connection and nothing else.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "agent/service/listen.h"
#include "agent/service/routes.h"

namespace profagent::service {

// Written by our thread, read by any.
struct ServiceCounters {
  std::atomic<std::uint64_t> connections{0};
  std::atomic<std::uint64_t> connections_open{0};
  std::atomic<std::uint64_t> connections_over_limit{0};
  std::atomic<std::uint64_t> requests{0};
  std::atomic<std::uint64_t> requests_refused{0};    // 403
  std::atomic<std::uint64_t> requests_broken{0};     // not HTTP, too large, too slow
  std::atomic<std::uint64_t> requests_cancelled{0};  // the client left while we collected
  std::atomic<std::uint64_t> errors{0};              // 500
  std::atomic<std::uint64_t> restarts{0};            // an exception reached the loop
};

struct HttpServerOptions {
  std::span<const Listener> listeners;  // with the wake-up socket
  bool shared_fd_table = false;         // descriptors must be checked and kept high
  unsigned idle_seconds = 0;            // end after so long without a connection; 0: never
  const std::atomic<bool>* stop = nullptr;
  ServiceCounters* counters = nullptr;
};

enum class HttpEnd {
  kStopped,  // *stop was set
  kIdle,
  kRobbed,  // the program has closed our descriptors
};

// Throws when it cannot start (no descriptors, no memory).
HttpEnd serve_http(const Site& site, const HttpServerOptions& options);

}  // namespace profagent::service
