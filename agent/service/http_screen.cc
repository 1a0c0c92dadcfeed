#include "agent/service/http_screen.h"

#include <algorithm>

#include "agent/service/query.h"

namespace profagent::service {

namespace {

constexpr std::string_view kScheme = "http://";

bool is_continue(std::string_view text) noexcept {
  constexpr std::string_view kContinue = "100-continue";
  return std::equal(text.begin(), text.end(), kContinue.begin(), kContinue.end(),
                    [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b; });
}

// The host that the client wants: a proxy's absolute target goes before the Host header.
std::string_view take_host(std::string_view* target, std::string_view host) noexcept {
  if (target->substr(0, kScheme.size()) != kScheme) return host;
  target->remove_prefix(kScheme.size());
  const std::size_t slash = std::min(target->find_first_of("/?"), target->size());
  const std::string_view authority = target->substr(0, slash);
  target->remove_prefix(slash);
  if (target->empty()) *target = "/";
  return authority;
}

std::optional<Response> refuse_client(const HeaderView& header, const AccessPolicy& policy,
                                      const PeerUser& peer, uid_t own_uid) {
  const auto reason =
      peer.remote ? refuse_token(policy, header.authorization) : refuse_peer(policy, peer, own_uid);
  if (!reason) return std::nullopt;
  if (!peer.remote || policy.bearer_token.empty()) return make_pprof_error(403, *reason);
  Response refusal = make_pprof_error(401, *reason);
  refusal.headers.emplace_back("WWW-Authenticate", "Basic realm=\"profagent\"");
  return refusal;
}

// A page elsewhere must not read profiles through its visitor's browser. A Unix socket no browser can reach.
// A remote client has shown a token, which browsers keep for each name: no name that leads here by a trick
// has it, but a page elsewhere may have its visitor's browser send it.
std::optional<Response> refuse_names(const HeaderView& header, std::string_view host, const PeerUser& peer,
                                     const Address& address) {
  if (header.hosts > 1) return make_plain_error(400, "400 Bad Request: too many Host headers");
  if (header.hosts == 0 && !header.http10)
    return make_plain_error(400, "400 Bad Request: missing required Host header");
  if (address.kind == AddressKind::kUnix) return std::nullopt;
  const bool has_host = header.hosts > 0 || !host.empty();
  if (has_host && !peer.remote && !is_own_host(host)) {
    return make_pprof_error(403,
                            "profagent answers only to the names localhost, 127.0.0.1 and [::1]. Ask for "
                            "http://localhost/..., for example through an SSH tunnel.");
  }
  // An image or a link of such a page has no Origin, and could have profiles taken all day.
  const bool is_foreign = header.fetch_site == "cross-site" || header.fetch_site == "same-site";
  if (is_foreign || (!header.origin.empty() && !is_own_origin(header.origin, host))) {
    return make_pprof_error(403, "profagent does not answer pages of other sites. Open the address itself.");
  }
  return std::nullopt;
}

}  // namespace

Method to_method(std::string_view name) noexcept {
  if (name == "GET") return Method::kGet;
  if (name == "HEAD") return Method::kHead;
  if (name == "POST") return Method::kPost;
  if (name == "PUT") return Method::kPut;
  return Method::kOther;
}

Screened screen(const HeaderView& header, const AccessPolicy& policy, const PeerUser& peer,
                const Address& address, uid_t own_uid) {
  Screened result;
  std::string_view target = header.target;
  const std::string_view host = take_host(&target, header.host);
  result.refusal = refuse_client(header, policy, peer, own_uid);
  if (!result.refusal) result.refusal = refuse_names(header, host, peer, address);
  if (result.refusal) return result;

  const std::size_t question = std::min(target.find('?'), target.size());
  auto path = percent_decode(target.substr(0, question), Plus::kIsPlus);
  if (!path) {
    result.refusal = make_plain_error(400, "400 Bad Request");
    return result;
  }
  if (header.unknown_encoding) {
    result.refusal = make_plain_error(501, "501 Unsupported transfer encoding");
    return result;
  }
  result.wants_continue = !header.http10 && is_continue(header.expect);
  if (!header.expect.empty() && !is_continue(header.expect)) {
    result.refusal = make_plain_error(417, "417 Expectation Failed");
    return result;
  }
  result.request.method = header.method;
  result.request.path = std::move(*path);
  result.request.query = target.substr(std::min(question + 1, target.size()));
  result.request.host = host;
  result.request.content_type = header.content_type;
  if (address.kind == AddressKind::kUnix) result.request.socket_path = address.path.view();
  return result;
}

}  // namespace profagent::service
