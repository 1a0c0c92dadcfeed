// One connection, from its admission to its end. The only file that sees the HTTP library is http_session.cc.
#pragma once

#include <cstddef>

#include "agent/service/http_asio.h"
#include "agent/service/http_places.h"
#include "agent/service/listen_address.h"
#include "agent/service/routes.h"

namespace profagent::service {

// What the connections share.
struct HttpShared {
  HttpShared(const Site& its_site, ServiceCounters& its_counters);

  const Site& site;
  ServiceCounters& counters;
  Places places;
  std::size_t sessions = 0;    // that exist, also those that are closed and about to go
  std::size_t body_bytes = 0;  // what the bodies that are being read or answered may have
  // Behind those, so that it goes before: the sessions live in its handlers and count themselves out.
  boost::asio::io_context io;
};

// Reads requests from the socket and answers them, in handlers of shared.io. `address` is the listener's.
// Throws when there is no memory; the socket is closed then.
void begin_session(HttpShared& shared, const Address& address,
                   boost::asio::generic::stream_protocol::socket socket);

}  // namespace profagent::service
