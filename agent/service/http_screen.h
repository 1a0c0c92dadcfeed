// The first look at a request's header: may this client ask, is it a request for us at all? No sockets, no
// HTTP library.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include <sys/types.h>

#include "agent/service/access.h"
#include "agent/service/http_message.h"
#include "agent/service/listen_address.h"

namespace profagent::service {

// As it came over the wire.
struct HeaderView {
  Method method = Method::kGet;
  std::string_view target;
  bool http10 = false;
  std::size_t hosts = 0;  // how many Host headers
  std::string_view host;
  std::string_view origin;
  std::string_view fetch_site;  // Sec-Fetch-Site: where the page is from that a browser asks for
  std::string_view authorization;
  std::string_view expect;
  std::string_view content_type;
  bool unknown_encoding = false;  // a Transfer-Encoding that is not chunked: nobody knows where the body ends
};

struct Screened {
  std::optional<Response> refusal;
  Request request;  // when not refused; the body is still to come
  bool wants_continue = false;
};

[[nodiscard]] Method to_method(std::string_view name) noexcept;

// `address` is the listener's that the request came through.
[[nodiscard]] Screened screen(const HeaderView& header, const AccessPolicy& policy, const PeerUser& peer,
                              const Address& address, uid_t own_uid);

}  // namespace profagent::service
