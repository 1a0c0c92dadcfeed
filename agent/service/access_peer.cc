// Asks the kernel whose socket is at the other end of a connection.
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string>

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/syscall.h>

#include "agent/safe/sys.h"
#include "agent/service/access.h"
#include "agent/service/server_errno.h"

namespace profagent::service {

namespace {

namespace sys = safe::sys;
using sys::address_of;

// The states of linux/tcp_states.h that tell a connected socket that somebody holds.
constexpr std::uint8_t kTcpListen = 10;

// Both ends of a connection, in network order. An IPv4 address stands in the first four bytes.
struct Ends {
  std::uint8_t family = AF_INET;
  std::uint8_t own[16] = {};
  std::uint8_t peer[16] = {};
  std::uint16_t own_port = 0;
  std::uint16_t peer_port = 0;
};

struct Answer {
  std::optional<uid_t> uid;
  std::string problem;
};

struct Fd {
  long number;
  explicit Fd(long fd) : number(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() {
    if (number >= 0) sys::call(SYS_close, number);
  }
};

std::string failure(std::string_view what, long error) {
  return std::string(what) + ": " + errno_name(-error);
}

// A socket whose owner has closed it has no inode and no owner any more; the kernel then reports uid 0, which
// would let everybody in who sends a request and closes at once.
Answer judge(std::uint32_t uid, std::uint64_t inode) {
  if (inode == 0) return {std::nullopt, "the client has closed its socket"};
  return {uid, {}};
}

Answer ask_sock_diag(const Ends& ends) {
  const Fd netlink(sys::call(SYS_socket, AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (netlink.number < 0) return {std::nullopt, failure("sock_diag", netlink.number)};

  struct {
    nlmsghdr header;
    inet_diag_req_v2 request;
  } query = {};
  query.header.nlmsg_len = sizeof(query);
  query.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  query.header.nlmsg_flags = NLM_F_REQUEST;
  query.request.sdiag_family = ends.family;
  query.request.sdiag_protocol = IPPROTO_TCP;
  query.request.idiag_states = ~0U;
  // The peer's socket is asked for: its source is our peer.
  query.request.id.idiag_sport = ends.peer_port;
  query.request.id.idiag_dport = ends.own_port;
  std::memcpy(query.request.id.idiag_src, ends.peer, sizeof(ends.peer));
  std::memcpy(query.request.id.idiag_dst, ends.own, sizeof(ends.own));
  query.request.id.idiag_cookie[0] = INET_DIAG_NOCOOKIE;
  query.request.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;

  sockaddr_nl kernel = {};
  kernel.nl_family = AF_NETLINK;
  long result = sys::call(SYS_sendto, netlink.number, address_of(&query), sizeof(query), 0,
                          address_of(&kernel), sizeof(kernel));
  if (result < 0) return {std::nullopt, failure("sock_diag", result)};

  alignas(nlmsghdr) char buffer[8192];
  // The kernel has queued the answer before sendto returned, so there is nothing to wait for.
  result = sys::call(SYS_recvfrom, netlink.number, address_of(buffer), sizeof(buffer), MSG_DONTWAIT, 0, 0);
  if (result < static_cast<long>(sizeof(nlmsghdr)))
    return {std::nullopt, failure("sock_diag", result < 0 ? result : -EPROTO)};
  nlmsghdr header;
  std::memcpy(&header, buffer, sizeof(header));
  if (header.nlmsg_type == NLMSG_ERROR) {
    nlmsgerr error;
    std::memcpy(&error, buffer + NLMSG_HDRLEN, sizeof(error));
    return {std::nullopt, failure("sock_diag", error.error)};
  }
  inet_diag_msg message;
  if (header.nlmsg_type != SOCK_DIAG_BY_FAMILY ||
      result < static_cast<long>(NLMSG_HDRLEN + sizeof(message))) {
    return {std::nullopt, "sock_diag: unexpected answer"};
  }
  std::memcpy(&message, buffer + NLMSG_HDRLEN, sizeof(message));
  // With no such connection the kernel falls back to a listener on that port, which is somebody else.
  if (message.idiag_state == kTcpListen || message.id.idiag_sport != ends.peer_port ||
      message.id.idiag_dport != ends.own_port) {
    return {std::nullopt, "the client has closed its socket"};
  }
  return judge(message.idiag_uid, message.idiag_inode);
}

std::string read_file(const char* path) {
  std::string text;
  const Fd file(sys::call(SYS_openat, AT_FDCWD, address_of(path), O_RDONLY | O_CLOEXEC));
  if (file.number < 0) return text;
  char buffer[4096];
  for (;;) {
    const long got = sys::call(SYS_read, file.number, address_of(buffer), sizeof(buffer));
    if (got == -EINTR) continue;
    if (got <= 0) return text;
    text.append(buffer, static_cast<std::size_t>(got));
  }
}

// As /proc/net/tcp writes it: each 32-bit word of the address as a host-order number, then the port.
std::string proc_address(const std::uint8_t* address, std::size_t size, std::uint16_t port) {
  char word[16];
  std::string text;
  for (std::size_t i = 0; i < size; i += 4) {
    std::uint32_t value = 0;
    std::memcpy(&value, address + i, sizeof(value));
    std::snprintf(word, sizeof(word), "%08X", value);
    text += word;
  }
  std::snprintf(word, sizeof(word), ":%04X", ntohs(port));
  return text + word;
}

std::string_view next_word(std::string_view* line) noexcept {
  const std::size_t begin = std::min(line->find_first_not_of(' '), line->size());
  const std::size_t end = std::min(line->find(' ', begin), line->size());
  const std::string_view word = line->substr(begin, end - begin);
  line->remove_prefix(end);
  return word;
}

Answer read_proc_net(const Ends& ends) {
  const bool v4 = ends.family == AF_INET;
  const std::size_t size = v4 ? 4 : 16;
  const std::string local = proc_address(ends.peer, size, ends.peer_port);
  const std::string remote = proc_address(ends.own, size, ends.own_port);
  // thread-self: /proc/self is empty once the main thread is gone.
  const std::string text = read_file(v4 ? "/proc/thread-self/net/tcp" : "/proc/thread-self/net/tcp6");
  if (text.empty()) return {std::nullopt, "/proc is not readable"};
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    next_word(&line);  // number
    if (next_word(&line) != local || next_word(&line) != remote) continue;
    for (int skip = 0; skip < 4; ++skip) next_word(&line);  // state, queues, timer, retransmits
    std::uint32_t uid = 0;
    std::uint64_t inode = 0;
    const std::string_view uid_text = next_word(&line);
    next_word(&line);  // timeout
    const std::string_view inode_text = next_word(&line);
    std::from_chars(uid_text.data(), uid_text.data() + uid_text.size(), uid);
    std::from_chars(inode_text.data(), inode_text.data() + inode_text.size(), inode);
    return judge(uid, inode);
  }
  return {std::nullopt, "the connection is not in /proc/net/tcp"};
}

bool is_loopback(const Ends& ends) noexcept {
  if (ends.family == AF_INET) return ends.peer[0] == 127;
  const in6_addr loopback = IN6ADDR_LOOPBACK_INIT;
  return std::memcmp(ends.peer, &loopback, sizeof(loopback)) == 0;
}

// A v6 socket that serves a v4 client: the kernel files the connection under its v4 addresses.
void unmap_v4(Ends* ends) noexcept {
  static constexpr std::uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (ends->family != AF_INET6 || std::memcmp(ends->peer, kMapped, sizeof(kMapped)) != 0) return;
  ends->family = AF_INET;
  for (auto* address : {ends->own, ends->peer}) {
    std::memmove(address, address + 12, 4);
    std::memset(address + 4, 0, 12);
  }
}

bool read_end(int socket, long which, std::uint8_t* family, std::uint8_t* address,
              std::uint16_t* port) noexcept {
  sockaddr_storage storage = {};
  socklen_t length = sizeof(storage);
  if (sys::call(which, socket, address_of(&storage), address_of(&length)) < 0) return false;
  *family = static_cast<std::uint8_t>(storage.ss_family);
  if (storage.ss_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, &storage, sizeof(v4));
    std::memcpy(address, &v4.sin_addr, 4);
    *port = v4.sin_port;
  } else if (storage.ss_family == AF_INET6) {
    sockaddr_in6 v6;
    std::memcpy(&v6, &storage, sizeof(v6));
    std::memcpy(address, &v6.sin6_addr, 16);
    *port = v6.sin6_port;
  }
  return true;
}

PeerUser ask_unix(int socket) {
  ucred peer = {};
  socklen_t length = sizeof(peer);
  const long result =
      sys::call(SYS_getsockopt, socket, SOL_SOCKET, SO_PEERCRED, address_of(&peer), address_of(&length));
  if (result < 0) return {std::nullopt, failure("SO_PEERCRED", result), false};
  return {peer.uid, {}, false};
}

// The answer at once where no connection has to be looked up.
std::optional<PeerUser> read_ends(int socket, Ends* ends) {
  if (!read_end(socket, SYS_getsockname, &ends->family, ends->own, &ends->own_port)) {
    return PeerUser{std::nullopt, "the socket has no name", true};
  }
  if (ends->family == AF_UNIX) return ask_unix(socket);
  if (!read_end(socket, SYS_getpeername, &ends->family, ends->peer, &ends->peer_port)) {
    // What it has sent may still be read; nobody knows where from.
    return PeerUser{std::nullopt, "the client is gone", true};
  }
  unmap_v4(ends);
  if (!is_loopback(*ends)) return PeerUser{std::nullopt, "the client is on another machine", true};
  return std::nullopt;
}

}  // namespace

PeerUser find_peer_user(int socket) {
  Ends ends;
  if (auto known = read_ends(socket, &ends)) return *known;
  const Answer netlink = ask_sock_diag(ends);
  if (netlink.uid) return {netlink.uid, {}, false};
  const Answer proc = read_proc_net(ends);
  if (proc.uid) return {proc.uid, {}, false};
  return {std::nullopt, netlink.problem + "; " + proc.problem, false};
}

PeerUser find_peer_user_in_proc(int socket) {
  Ends ends;
  if (auto known = read_ends(socket, &ends)) return *known;
  Answer proc = read_proc_net(ends);
  return {proc.uid, std::move(proc.problem), false};
}

}  // namespace profagent::service
