#include "agent/service/http_server.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <list>
#include <memory>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "agent/safe/events.h"
#include "agent/safe/sys.h"
#include "agent/service/fd_table.h"
#include "agent/service/http_asio.h"
#include "agent/service/http_session.h"

namespace profagent::service {

namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Protocol = asio::generic::stream_protocol;
using Socket = Protocol::socket;
using std::chrono::seconds;

// Exceptions that reach the loop, one after the other, without a request between them.
constexpr int kMaxFailures = 100;
// New connections between two looks at what else there is to do.
constexpr int kMaxAccepted = 16;

class Acceptor;

struct Server {
  Server(const Site& site, const HttpServerOptions& its_options);

  const HttpServerOptions& options;
  HttpShared shared;
  std::list<Acceptor> acceptors;
};

// One listening socket.
class Acceptor {
 public:
  Acceptor(Server& server, const Listener& listener)
      : server_(server),
        listener_(listener),
        descriptor_(server.shared.io, listener.fd),
        pause_(server.shared.io) {}

  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  // The descriptor is Listeners' to close; a copy in a table of our own ends with the thread.
  ~Acceptor() { descriptor_.release(); }

  void wait() {
    descriptor_.async_wait(asio::posix::stream_descriptor::wait_read, [this](error_code error) {
      if (!error) accept_all();
    });
  }

 private:
  void accept_all() {
    if (listener_.is_wake_up) {
      // run() looks at the reason. What is not taken out would wake us for ever.
      char byte = 0;
      while (safe::sys::call(SYS_recvfrom, listener_.fd, reinterpret_cast<long>(&byte), 1, MSG_DONTWAIT, 0,
                             0) > 0) {
      }
      return wait();
    }
    for (int accepted = 0; accepted < kMaxAccepted; ++accepted) {
      if (server_.shared.places.are_full()) return pause();
      const long fd = safe::sys::call(SYS_accept4, listener_.fd, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (fd == -EINTR || fd == -ECONNABORTED) continue;
      if (fd == -EAGAIN) return wait();
      if (fd < 0) return pause();
      try {
        admit(static_cast<int>(fd));
      } catch (const std::exception&) {
        // Out of memory, and nobody else would wait for clients here again.
        count(server_.options.counters->errors);
        return pause();
      }
    }
    wait();
  }

  // No room for the client that waits, and it would wake us again at once.
  void pause() {
    pause_.expires_after(std::chrono::milliseconds(200));
    pause_.async_wait([this](error_code error) {
      if (!error) accept_all();
    });
  }

  void admit(int fd) {
    const HttpServerOptions& options = server_.options;
    count(options.counters->connections);
    if (options.shared_fd_table) fd = move_fd_high(fd);
    const bool is_unix = listener_.address.kind == AddressKind::kUnix;
    const int family = is_unix ? AF_UNIX : listener_.address.kind == AddressKind::kTcp4 ? AF_INET : AF_INET6;
    Socket socket(server_.shared.io);
    error_code error;
    socket.assign(Protocol(family, is_unix ? 0 : IPPROTO_TCP), fd, error);
    if (error) {
      safe::sys::call(SYS_close, fd);
      throw boost::system::system_error(error);
    }
    if (!is_unix) {
      const int yes = 1;
      safe::sys::call(SYS_setsockopt, fd, IPPROTO_TCP, TCP_NODELAY, reinterpret_cast<long>(&yes),
                      sizeof(yes));
    }
    begin_session(server_.shared, listener_.address, std::move(socket));
  }

  Server& server_;
  const Listener& listener_;
  asio::posix::stream_descriptor descriptor_;
  asio::steady_timer pause_;
};

Server::Server(const Site& site, const HttpServerOptions& its_options)
    : options(its_options), shared(site, *its_options.counters) {
  for (const Listener& listener : options.listeners) acceptors.emplace_back(*this, listener).wait();
}

// Runs handlers until there is a reason to end.
HttpEnd run(Server& server) {
  const HttpServerOptions& options = server.options;
  auto last_open = std::chrono::steady_clock::now();
  for (;;) {
    if (options.stop != nullptr && options.stop->load(std::memory_order_acquire)) return HttpEnd::kStopped;
    if (options.shared_fd_table && !Listeners::are_ours(options.listeners)) return HttpEnd::kRobbed;
    const auto now = std::chrono::steady_clock::now();
    const bool may_retire = options.may_retire == nullptr || options.may_retire();
    if (server.shared.sessions > 0 || !may_retire) last_open = now;
    const auto retire_at = last_open + seconds(options.idle_seconds);
    if (options.idle_seconds != 0 && now >= retire_at) return HttpEnd::kIdle;
    // Until when we may sleep although nobody comes.
    auto wake_at = std::chrono::steady_clock::time_point::max();
    if (options.shared_fd_table) wake_at = now + seconds(1);
    // Who wants us to end may not be able to wake us.
    if (safe::events.any_is_filtered.load(std::memory_order_relaxed) != 0)
      wake_at = now + std::chrono::milliseconds(100);
    if (options.idle_seconds != 0 && server.shared.sessions == 0) wake_at = std::min(wake_at, retire_at);
    if (const double pause = server.shared.site.tend ? server.shared.site.tend() : 0; pause > 0) {
      const auto length = std::chrono::duration<double>(pause);
      wake_at =
          std::min(wake_at, now + std::chrono::duration_cast<std::chrono::steady_clock::duration>(length));
    }
    if (wake_at == std::chrono::steady_clock::time_point::max()) {
      server.shared.io.run_one();
    } else {
      server.shared.io.run_one_until(wake_at);
    }
  }
}

}  // namespace

HttpEnd serve_http(const Site& site, const HttpServerOptions& options) {
  auto server = std::make_unique<Server>(site, options);
  int failures = 0;
  std::uint64_t requests = 0;
  for (;;) {
    try {
      const HttpEnd end = run(*server);
      // Our descriptors may be files of the program by now. Nothing touches them again; the memory is lost.
      if (end == HttpEnd::kRobbed) static_cast<void>(server.release());
      return end;  // NOLINT(clang-analyzer-cplusplus.NewDeleteLeaks)
    } catch (const std::exception&) {
      count(options.counters->restarts);
      const std::uint64_t requests_now = options.counters->requests.load(std::memory_order_relaxed);
      failures = requests_now == requests ? failures + 1 : 0;
      requests = requests_now;
      if (failures > kMaxFailures) throw;
    }
  }
}

}  // namespace profagent::service
