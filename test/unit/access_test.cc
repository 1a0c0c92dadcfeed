#include "agent/service/access.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/service/http_screen.h"

namespace profagent::service {

namespace {

constexpr uid_t kStranger = 65534;

// Two ends of a TCP connection; the client belongs to `uid`.
class Connection {
 public:
  explicit Connection(int family, uid_t uid = geteuid(), bool mapped = false) {
    const int listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_storage name = {};
    socklen_t length = sizeof(name);
    if (family == AF_INET) {
      sockaddr_in v4 = {};
      v4.sin_family = AF_INET;
      v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      std::memcpy(&name, &v4, length = sizeof(v4));
    } else {
      sockaddr_in6 v6 = {};
      v6.sin6_family = AF_INET6;
      v6.sin6_addr = mapped ? in6_addr(IN6ADDR_ANY_INIT) : in6_addr(IN6ADDR_LOOPBACK_INIT);
      std::memcpy(&name, &v6, length = sizeof(v6));
    }
    if (bind(listener, reinterpret_cast<sockaddr*>(&name), length) != 0 || listen(listener, 1) != 0) return;
    getsockname(listener, reinterpret_cast<sockaddr*>(&name), &length);
    if (mapped) {
      sockaddr_in6 v6;
      std::memcpy(&v6, &name, sizeof(v6));
      sockaddr_in v4 = {};
      v4.sin_family = AF_INET;
      v4.sin_port = v6.sin6_port;
      v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      std::memcpy(&name, &v4, length = sizeof(v4));
    }
    // A socket belongs to the file-system uid of the moment when it was made.
    const uid_t before = geteuid();
    if (uid != before && seteuid(uid) != 0) return;
    client = socket(name.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (uid != before && seteuid(before) != 0) return;
    if (connect(client, reinterpret_cast<sockaddr*>(&name), length) != 0) return;
    server = accept(listener, nullptr, nullptr);
    close(listener);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() {
    close(client);
    close(server);
  }

  int client = -1;
  int server = -1;
};

PeerUser known(uid_t uid) {
  return {uid, "", false};
}

}  // namespace

TEST_CASE("the kernel names the user at the other end of a TCP connection") {
  for (const int family : {AF_INET, AF_INET6}) {
    CAPTURE(family);
    const Connection own(family);
    REQUIRE(own.server >= 0);
    const PeerUser peer = find_peer_user(own.server);
    CHECK(peer.uid == geteuid());
    CHECK(peer.unknown_because.empty());
    CHECK_FALSE(peer.remote);
    if (geteuid() == 0) {
      const Connection other(family, kStranger);
      REQUIRE(other.server >= 0);
      CHECK(find_peer_user(other.server).uid == kStranger);
    }
  }
  const Connection mapped(AF_INET6, geteuid(), true);
  REQUIRE(mapped.server >= 0);
  CHECK(find_peer_user(mapped.server).uid == geteuid());
}

TEST_CASE("/proc/net/tcp gives the same answers as sock_diag") {
  for (const int family : {AF_INET, AF_INET6}) {
    CAPTURE(family);
    const Connection own(family);
    CHECK(find_peer_user_in_proc(own.server).uid == geteuid());
    if (geteuid() == 0) {
      const Connection other(family, kStranger);
      CHECK(find_peer_user_in_proc(other.server).uid == kStranger);
    }
  }
}

TEST_CASE("a client that has closed is nobody, not root") {
  // The kernel says uid 0 of a socket without an owner.
  Connection gone(AF_INET, geteuid() == 0 ? kStranger : geteuid());
  REQUIRE(gone.server >= 0);
  send(gone.client, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL);
  close(gone.client);
  gone.client = -1;
  for (const PeerUser& peer : {find_peer_user(gone.server), find_peer_user_in_proc(gone.server)}) {
    CHECK_FALSE(peer.uid);
    CHECK_FALSE(peer.unknown_because.empty());
    CHECK(refuse_peer({}, peer, 1000));
  }
}

TEST_CASE("a client that has gone may be anybody's, so not even everybody's permission is for it") {
  Connection gone(AF_INET);
  REQUIRE(gone.server >= 0);
  send(gone.client, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL);
  const linger abort{1, 0};  // a reset: the kernel does not even know any more where from
  setsockopt(gone.client, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
  close(gone.client);
  gone.client = -1;
  AccessPolicy anyone;
  anyone.any_uid = true;
  HeaderView header;
  header.hosts = 1;
  header.host = "localhost";
  header.target = "/debug/pprof/";
  for (const PeerUser& peer : {find_peer_user(gone.server), find_peer_user_in_proc(gone.server)}) {
    CHECK(peer.remote);
    CHECK_FALSE(peer.uid);
    const auto refusal = screen(header, anyone, peer, Address(), 0).refusal;
    REQUIRE(refusal);
    CHECK(refusal->status == 403);
  }
}

TEST_CASE("a client that has only finished sending is still somebody") {
  const Connection half(AF_INET);
  REQUIRE(half.server >= 0);
  shutdown(half.client, SHUT_WR);
  CHECK(find_peer_user(half.server).uid == geteuid());
  CHECK(find_peer_user_in_proc(half.server).uid == geteuid());
}

TEST_CASE("a Unix socket's peer is who connected it") {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  CHECK(find_peer_user(ends[0]).uid == geteuid());
  close(ends[0]);
  close(ends[1]);
}

TEST_CASE("our own user and root may ask, others when they are listed") {
  AccessPolicy policy;
  CHECK_FALSE(refuse_peer(policy, known(1000), 1000));
  CHECK_FALSE(refuse_peer(policy, known(0), 1000));
  const auto refusal = refuse_peer(policy, known(1001), 1000);
  REQUIRE(refusal);
  CHECK(refusal->find("PROFAGENT_ALLOW_UIDS=1001") != std::string::npos);
  // Root's programs are not for everybody.
  CHECK(refuse_peer(policy, known(1001), 0));
  policy.uids = {7, 1001};
  CHECK_FALSE(refuse_peer(policy, known(1001), 1000));
  CHECK(refuse_peer(policy, known(1002), 1000));
  CHECK(refuse_peer(policy, {std::nullopt, "why", false}, 1000)->find("(why)") != std::string::npos);
  policy.any_uid = true;
  CHECK_FALSE(refuse_peer(policy, known(1002), 1000));
  CHECK_FALSE(refuse_peer(policy, {std::nullopt, "why", false}, 1000));
}

TEST_CASE("the list of uids is numbers and a star") {
  std::string problem;
  CHECK(parse_allowed_uids("1,22,4294967294", &problem).uids == std::vector<uid_t>{1, 22, 4294967294});
  CHECK(parse_allowed_uids("", &problem).uids.empty());
  CHECK(parse_allowed_uids("5,*", &problem).any_uid);
  CHECK(problem.empty());
  for (const std::string wrong : {"root", "-1", "1 ", "4294967296", "0x1"}) {
    problem.clear();
    const AccessPolicy policy = parse_allowed_uids(wrong, &problem);
    CAPTURE(wrong);
    CHECK(policy.uids.empty());
    CHECK_FALSE(policy.any_uid);
    CHECK(problem.find("\"" + wrong + "\"") != std::string::npos);
  }
}

TEST_CASE("remote clients need the token, and a token to be set") {
  AccessPolicy policy;
  policy.any_uid = true;
  CHECK(refuse_token(policy, ""));
  CHECK(refuse_token(policy, "Bearer "));
  policy.bearer_token = "secret";
  CHECK_FALSE(refuse_token(policy, "Bearer secret"));
  CHECK_FALSE(refuse_token(policy, "bearer secret"));
  for (const char* wrong : {"", "Bearer", "Bearer ", "Bearer secre", "Bearer secrets", "Bearer Secret",
                            "Basic secret", "secret"}) {
    CAPTURE(wrong);
    CHECK(refuse_token(policy, wrong));
  }
}

TEST_CASE("the token is also a password, since go tool pprof sends nothing else") {
  AccessPolicy policy;
  policy.bearer_token = "0123456789abcdef";
  // x:0123456789abcdef, :0123456789abcdef, x:y:..., 0123456789abcdef, x:0123456789abcde
  CHECK_FALSE(refuse_token(policy, "Basic eDowMTIzNDU2Nzg5YWJjZGVm"));
  CHECK_FALSE(refuse_token(policy, "basic OjAxMjM0NTY3ODlhYmNkZWY="));
  for (const char* wrong : {"Basic eDp5OjAxMjM0NTY3ODlhYmNkZWY=", "Basic MDEyMzQ1Njc4OWFiY2RlZg==",
                            "Basic eDowMTIzNDU2Nzg5YWJjZGU=", "Basic 0123456789abcdef",
                            "Basic x:0123456789abcdef", "Basic ", "Basic =", "Basic Og==", "Basic \xff",
                            "Basic eDowMTIzNDU2Nzg5YWJjZGVm ", "Bearer eDowMTIzNDU2Nzg5YWJjZGVm"}) {
    CAPTURE(wrong);
    CHECK(refuse_token(policy, wrong));
  }
}

TEST_CASE("only our own names are hosts of ours [J2]") {
  for (const char* host : {"localhost", "localhost:6060", "LocalHost:1", "127.0.0.1", "127.0.0.1:65535",
                           "[::1]", "[::1]:6060"}) {
    CAPTURE(host);
    CHECK(is_own_host(host));
  }
  for (const char* host :
       {"", "evil.com", "localhost6", "localhost.", "localhost.evil.com", "127.0.0.1.", "127.0.0.2",
        "127.0.0.1.evil.com:80", "localhost:", "localhost:x", "localhost:65536", "localhost:80:80", "::1",
        "[::1", "[::1]x", "0.0.0.0", "user@localhost", "localhost:80@evil.com", " localhost"}) {
    CAPTURE(host);
    CHECK_FALSE(is_own_host(host));
  }
}

TEST_CASE("only our own pages are origins of ours [J3]") {
  CHECK(is_own_origin("http://localhost:6060", "localhost:6060"));
  CHECK(is_own_origin("http://LOCALHOST:6060", "localhost:6060"));
  for (const char* origin : {"null", "http://localhost:3000", "https://localhost:6060", "http://evil.com",
                             "localhost:6060", "http://localhost:6060.evil.com", "http://localhost"}) {
    CAPTURE(origin);
    CHECK_FALSE(is_own_origin(origin, "localhost:6060"));
  }
}

TEST_CASE("an absolute target's host counts, not the header's") {
  HeaderView header;
  header.hosts = 1;
  header.host = "localhost";
  header.target = "http://evil.com/debug/pprof/heap";
  const Address address;
  const Screened refused = screen(header, {}, known(0), address, 0);
  REQUIRE(refused.refusal);
  CHECK(refused.refusal->status == 403);
  header.target = "http://127.0.0.1:6060/debug/pprof/heap?x=%2B";
  header.host = "evil.com";
  const Screened good = screen(header, {}, known(0), address, 0);
  REQUIRE_FALSE(good.refusal);
  CHECK(good.request.path == "/debug/pprof/heap");
  CHECK(good.request.query == "x=%2B");
  CHECK(good.request.host == "127.0.0.1:6060");
  header.target = "http://localhost";
  CHECK(screen(header, {}, known(0), address, 0).request.path == "/");
}

TEST_CASE("a remote client's token stands in for the names") {
  HeaderView header;
  header.hosts = 1;
  header.host = "server.example:6060";
  header.target = "/debug/pprof/";
  AccessPolicy policy;
  policy.bearer_token = "secret";
  const PeerUser remote{std::nullopt, "the client is on another machine", true};
  const auto refused = screen(header, policy, remote, Address(), 0).refusal;
  REQUIRE(refused);
  CHECK(refused->status == 401);
  const std::pair<std::string, std::string> challenge("WWW-Authenticate", "Basic realm=\"profagent\"");
  CHECK(std::find(refused->headers.begin(), refused->headers.end(), challenge) != refused->headers.end());
  header.authorization = "Bearer secret";
  CHECK_FALSE(screen(header, policy, remote, Address(), 0).refusal);
  // A browser that knows the token shows it for whatever page wants it to.
  header.origin = "http://evil.example";
  CHECK(screen(header, policy, remote, Address(), 0).refusal->status == 403);
  header.origin = "http://server.example:6060";
  CHECK_FALSE(screen(header, policy, remote, Address(), 0).refusal);
  // Without a token nobody can show one.
  CHECK(screen(header, {}, remote, Address(), 0).refusal->status == 403);
}

}  // namespace profagent::service
