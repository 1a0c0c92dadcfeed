// Who may ask. Loopback is no protection on a machine with other users or a browser, so the kernel is asked
// who the peer is, and the Host and Origin headers are compared with our own names (DNS rebinding, cross-site
// requests). A refusal is a text that says what to do. When the kernel gives no answer, the peer is refused.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/socket.h>
#include <sys/types.h>

namespace profagent::service {

struct AccessPolicy {
  bool any_uid = false;
  std::vector<uid_t> uids;  // besides our own and root
  // For clients of other machines, whose uid cannot be known. Empty: those are refused.
  std::string bearer_token;
};

// PROFAGENT_ALLOW_UIDS: numbers separated by commas, or "*". `problem` names what was not understood.
[[nodiscard]] AccessPolicy parse_allowed_uids(std::string_view text, std::string* problem);

// The user at the other end of an accepted connection, or why that is not known.
struct PeerUser {
  std::optional<uid_t> uid;
  std::string unknown_because;
  bool remote = false;  // not on this machine's loopback, or gone before that could be known
};

[[nodiscard]] PeerUser find_peer_user(int socket);
// The same for TCP without netlink, which sandboxes forbid: find_peer_user()'s second choice.
[[nodiscard]] PeerUser find_peer_user_in_proc(int socket);

// Why this user may not ask; nullopt when he may. For a remote peer see refuse_token().
[[nodiscard]] std::optional<std::string> refuse_peer(const AccessPolicy& policy, const PeerUser& peer,
                                                     uid_t own_uid);

// For remote peers: the Authorization header must carry the token, as a bearer or, since go tool pprof sends
// nothing else, as the password of http://anything:TOKEN@host/.
[[nodiscard]] std::optional<std::string> refuse_token(const AccessPolicy& policy,
                                                      std::string_view authorization);

// The Host header must name this machine's loopback, with or without a port.
[[nodiscard]] bool is_own_host(std::string_view host) noexcept;

// A browser's Origin header must be that of our own pages.
[[nodiscard]] bool is_own_origin(std::string_view origin, std::string_view host) noexcept;

}  // namespace profagent::service
