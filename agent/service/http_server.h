// HTTP on the listeners, on the calling thread, until there is a reason to end.
//
// A request that waits (?seconds=N) holds a timer and blocks nobody. A client that goes away cancels what it
// asked for within a second. Whatever a client sends costs it its own connection and nothing else.
#pragma once

#include <atomic>
#include <span>

#include "agent/service/http_counters.h"
#include "agent/service/listen.h"
#include "agent/service/routes.h"

namespace profagent::service {

struct HttpServerOptions {
  std::span<const Listener> listeners;      // with the wake-up socket
  bool shared_fd_table = false;             // descriptors must be checked and kept high
  unsigned idle_seconds = 0;                // end after so long without a connection; 0: never
  bool (*may_retire)() noexcept = nullptr;  // false: not yet, and not for as long again; null: always
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
