#include "agent/service/http_server.h"

// Before Asio: Boost 1.74 uses std::exchange without including it.
#include <utility>

#include "agent/service/http_high_fds.h"

// Asio's own descriptors must not take the numbers that the program counts on, and Asio offers no way to say
// so.
#define epoll_create1 profagent_high_epoll_create1
#define eventfd profagent_high_eventfd
#define timerfd_create profagent_high_timerfd_create
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#undef epoll_create1
#undef eventfd
#undef timerfd_create

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <list>
#include <memory>
#include <optional>
#include <string>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/safe/sys.h"
#include "agent/service/fd_table.h"
#include "agent/service/http_screen.h"
#include "agent/service/own_memory.h"

namespace profagent::service {

namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using Protocol = asio::generic::stream_protocol;
using Socket = Protocol::socket;
using std::chrono::seconds;

constexpr std::size_t kMaxConnections = 64;
// Beyond those, so many are told why they get no answer. The next wait where the kernel keeps new
// connections.
constexpr std::size_t kMaxTurnedAway = 16;
// All bodies at a time. An answer needs several times the memory of its body, and there are 256 MiB of it.
constexpr std::size_t kMaxBodies = 2 * kLargestBody;
// Exceptions that reach the loop, one after the other, without a request between them.
constexpr int kMaxFailures = 100;
constexpr std::uint32_t kMaxHeader = 16 << 10;
// Room for a header, and for what a client sends ahead while it waits.
constexpr std::size_t kBufferSize = 64 << 10;
constexpr std::string_view kTooLarge = "413 Request Entity Too Large";

constexpr seconds kIdleDeadline(90);   // between requests; Go's client keeps a connection for 90 s
constexpr seconds kHeaderDeadline(5);  // from the first byte to the end of the header
constexpr seconds kBodyDeadline(60);
// For each so many bytes of an answer: a client that reads slower than that is not waited for.
constexpr seconds kWriteDeadline(60);
constexpr std::size_t kWriteStep = 256 << 10;
constexpr seconds kLingerDeadline(2);

class Acceptor;
class Session;

struct Server {
  Server(const Site& its_site, const HttpServerOptions& its_options);

  const Site& site;
  const HttpServerOptions& options;
  std::size_t open = 0;
  std::size_t body_bytes = 0;  // what the bodies that are being read or answered may have
  std::list<Session*> idle;    // without a request in hand, longest first
  // Behind those, so that it goes before: the sessions live in its handlers and count themselves out.
  asio::io_context io;
  std::list<Acceptor> acceptors;
};

// Errors of the client's HTTP; all others are errors of the connection.
const boost::system::error_category& http_category() {
  return http::make_error_code(http::error::bad_method).category();
}

std::string_view to_std(boost::beast::string_view text) {
  return {text.data(), text.size()};
}

void count(std::atomic<std::uint64_t>& counter) {
  counter.fetch_add(1, std::memory_order_relaxed);
}

// One connection. Lives as long as a handler refers to it.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(Server& server, const Address& address, Socket socket, bool over_limit)
      : server_(server),
        address_(address),
        over_limit_(over_limit),
        socket_(std::move(socket)),
        deadline_(server.io),
        wait_(server.io),
        peer_(find_peer_user(socket_.native_handle())) {
    socket_.non_blocking(true);
    ++server_.open;
    server_.options.counters->connections_open.store(server_.open, std::memory_order_relaxed);
  }

  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  ~Session() {
    leave_idle();
    release_body();
    if (--server_.open == 0) own_memory::trim();
    server_.options.counters->connections_open.store(server_.open, std::memory_order_relaxed);
  }

  void wait_for_request() {
    parser_.reset();
    if (buffer_.size() > 0) return read_header();
    set_deadline(over_limit_ ? kHeaderDeadline : kIdleDeadline);
    idle_since_ = std::chrono::steady_clock::now();
    idle_place_ = server_.idle.insert(server_.idle.end(), this);
    socket_.async_wait(Socket::wait_read, [self = shared_from_this()](error_code error) {
      if (!error) self->read_header();
    });
  }

  // A connection on which nothing has come for as long as a header may take is closed for a new one.
  static bool close_an_idle_one(Server& server) {
    for (Session* session : server.idle) {
      error_code error;
      if (session->idle_since_ + kHeaderDeadline > std::chrono::steady_clock::now()) return false;
      if (session->socket_.available(error) > 0) continue;
      session->close();
      return true;
    }
    return false;
  }

 private:
  using Parser = http::request_parser<http::string_body>;

  // Closing ends every operation, and with them the session.
  void close() {
    error_code ignored;
    leave_idle();
    deadline_.cancel();
    wait_.cancel();
    socket_.close(ignored);
  }

  void leave_idle() {
    if (idle_place_) server_.idle.erase(*idle_place_);
    idle_place_.reset();
  }

  // Does not keep the session alive: one that an exception has left without an operation ends at once.
  void set_deadline(seconds after) {
    deadline_.expires_after(after);
    deadline_.async_wait([session = weak_from_this()](error_code error) {
      const auto self = session.lock();
      // The deadline may have been moved while this handler was already queued.
      if (error || !self || self->deadline_.expiry() > std::chrono::steady_clock::now()) return;
      if (self->parser_) count(self->server_.options.counters->requests_broken);
      self->close();
    });
  }

  void read_header() {
    leave_idle();
    parser_.emplace();
    parser_->header_limit(kMaxHeader);
    parser_->body_limit(kLargestBody);
    set_deadline(kHeaderDeadline);
    http::async_read_header(socket_, buffer_, *parser_,
                            [self = shared_from_this()](error_code error, std::size_t) {
                              if (error) return self->on_bad_request(error);
                              self->on_header();
                            });
  }

  void on_bad_request(error_code error) {
    // The client is gone, or our deadline has closed the socket.
    if (error == http::error::end_of_stream || error.category() != http_category()) {
      return close();
    }
    count(server_.options.counters->requests_broken);
    keep_alive_ = false;
    is_head_ = false;
    http10_ = false;
    if (error == http::error::header_limit || error == http::error::buffer_overflow) {
      return respond(make_plain_error(431, "431 Request Header Fields Too Large"));
    }
    if (error == http::error::body_limit) return respond(make_plain_error(413, kTooLarge));
    respond(make_plain_error(400, "400 Bad Request"));
  }

  void on_header() {
    const auto& message = parser_->get();
    count(server_.options.counters->requests);
    http10_ = message.version() < 11;

    HeaderView header;
    header.unknown_encoding = message.count(http::field::transfer_encoding) > 0 && !message.chunked();
    keep_alive_ = message.keep_alive() && !http10_ && !header.unknown_encoding;
    header.method = to_method(to_std(message.method_string()));
    header.target = to_std(message.target());
    header.http10 = http10_;
    header.hosts = message.count(http::field::host);
    header.host = to_std(message[http::field::host]);
    header.origin = to_std(message[http::field::origin]);
    header.fetch_site = to_std(message["Sec-Fetch-Site"]);
    header.authorization = to_std(message[http::field::authorization]);
    header.expect = to_std(message[http::field::expect]);
    header.content_type = to_std(message[http::field::content_type]);
    is_head_ = header.method == Method::kHead;

    Screened screened = screen(header, server_.site.access, peer_, address_, geteuid());
    if (screened.refusal) {
      const int status = screened.refusal->status;
      // Who may not ask keeps nobody else's place.
      const bool may_not_ask = status == 401 || status == 403;
      if (may_not_ask) count(server_.options.counters->requests_refused);
      // The body of a refused request is not read, so the connection ends with it.
      keep_alive_ = keep_alive_ && parser_->is_done() && !may_not_ask;
      return respond(std::move(*screened.refusal));
    }
    if (over_limit_ && server_.open > kMaxConnections) {
      return turn_away("profagent answers " + std::to_string(kMaxConnections) + " connections at a time");
    }
    request_ = std::move(screened.request);
    if (parser_->is_done()) return answer();
    const std::size_t limit = body_limit(request_.method, request_.path);
    if (limit == 0) {
      keep_alive_ = false;
      return answer();
    }
    // The parser compares the length with its limit when it reads the header, before the path is known.
    if (const auto length = parser_->content_length(); length && *length > limit) {
      keep_alive_ = false;
      return respond(make_plain_error(413, kTooLarge));
    }
    if (!claim_body(limit))
      return turn_away("other requests' bodies take all the memory that there is for them");
    parser_->body_limit(limit);
    if (screened.wants_continue) return send_continue();
    read_body();
  }

  void turn_away(const std::string& reason) {
    Response response = make_pprof_error(503, reason + ". Try again.");
    response.headers.emplace_back("Retry-After", "1");
    keep_alive_ = false;
    respond(std::move(response));
  }

  // Room for a body of the length that the header names, else of the largest.
  bool claim_body(std::size_t limit) {
    const auto length = parser_->content_length();
    const std::size_t room =
        length ? static_cast<std::size_t>(std::min<std::uint64_t>(*length, limit)) : limit;
    if (server_.body_bytes + room > kMaxBodies) return false;
    body_bytes_ = room;
    server_.body_bytes += room;
    return true;
  }

  void release_body() {
    server_.body_bytes -= body_bytes_;
    body_bytes_ = 0;
  }

  void send_continue() {
    static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    asio::async_write(socket_, asio::buffer(kContinue.data(), kContinue.size()),
                      [self = shared_from_this()](error_code error, std::size_t) {
                        if (error) return self->close();
                        self->read_body();
                      });
  }

  void read_body() {
    set_deadline(kBodyDeadline);
    http::async_read(socket_, buffer_, *parser_, [self = shared_from_this()](error_code error, std::size_t) {
      if (error) return self->on_bad_request(error);
      self->request_.body = std::move(self->parser_->get().body());
      self->answer();
    });
  }

  void answer() {
    // Also for a handler that is queued already.
    deadline_.expires_at(std::chrono::steady_clock::time_point::max());
    guarded([this] {
      Answer answer = handle(server_.site, request_);
      if (auto* response = std::get_if<Response>(&answer)) return respond(std::move(*response));
      collect(std::move(std::get<Pending>(answer)));
    });
  }

  void collect(Pending pending) {
    pending_.emplace(std::move(pending));
    const auto length = std::chrono::duration<double>(pending_->seconds);
    finish_at_ = std::chrono::steady_clock::now() +
                 std::chrono::duration_cast<std::chrono::steady_clock::duration>(length);
    tend();
    watch_client();
  }

  // Waits for the end of the collection, or until it wants to be tended before that.
  void tend() {
    const double seconds_until_next = pending_->tend ? pending_->tend() : 0;
    const auto pause = std::chrono::duration<double>(seconds_until_next);
    const auto next = std::chrono::steady_clock::now() +
                      std::chrono::duration_cast<std::chrono::steady_clock::duration>(pause);
    const bool is_end = seconds_until_next <= 0 || (pending_->seconds > 0 && next >= finish_at_);
    wait_.expires_at(is_end ? finish_at_ : next);
    wait_.async_wait([self = shared_from_this(), is_end](error_code error) {
      if (error || !self->pending_) return;
      self->guarded([&] {
        if (!is_end) return self->tend();
        const auto finish = std::move(self->pending_->finish);
        self->pending_.reset();
        self->respond(finish());
      });
    });
  }

  // While collecting: notices a client that leaves, and keeps what it sends ahead.
  void watch_client() {
    if (buffer_.size() >= kBufferSize / 2) return;
    watching_ = true;
    socket_.async_wait(Socket::wait_read, [self = shared_from_this()](error_code error) {
      self->watching_ = false;
      if (error || !self->pending_) return;
      self->read_ahead();
    });
  }

  void read_ahead() {
    error_code error;
    const auto space = buffer_.prepare(4096);
    const std::size_t got = socket_.read_some(space, error);
    if (error && error != asio::error::would_block) {
      count(server_.options.counters->requests_cancelled);
      pending_.reset();
      return close();
    }
    buffer_.commit(error ? 0 : got);
    watch_client();
  }

  // The one place that catches what a handler throws.
  template <typename Work>
  void guarded(Work work) {
    try {
      work();
    } catch (const std::exception& error) {
      pending_.reset();
      count(server_.options.counters->errors);
      respond(make_pprof_error(500, error.what()));
    }
  }

  void respond(Response response) {
    response_ = std::move(response);
    HeadOptions head;
    head.http10 = http10_;
    head.close = !keep_alive_;
    head.without_length = is_head_;
    head.unix_seconds = static_cast<std::int64_t>(std::time(nullptr));
    head_ = format_head(response_, head);
    if (is_head_) response_.body.clear();

    // A wait for readability from watch_client() would otherwise eat the edge that the next request brings.
    error_code ignored;
    if (watching_) socket_.cancel(ignored);
    set_deadline(kWriteDeadline);
    const std::array<asio::const_buffer, 2> parts = {asio::buffer(head_), asio::buffer(response_.body)};
    asio::async_write(
        socket_, parts,
        [self = shared_from_this(), last = std::size_t{0}](error_code error, std::size_t done) mutable {
          if (done - last >= kWriteStep) {
            self->set_deadline(kWriteDeadline);
            last = done;
          }
          return error ? std::size_t{0} : std::size_t{1} << 20;
        },
        [self = shared_from_this()](error_code error, std::size_t) {
          if (error) return self->close();
          self->response_ = {};
          self->request_ = {};
          self->parser_.reset();
          self->release_body();
          if (self->keep_alive_) return self->wait_for_request();
          self->linger();
        });
  }

  // Closing with unread input makes the kernel send a reset, which can overtake our answer.
  void linger() {
    error_code error;
    socket_.shutdown(Socket::shutdown_send, error);
    if (error) return close();
    parser_.reset();
    set_deadline(kLingerDeadline);
    drain();
  }

  void drain() {
    buffer_.clear();
    socket_.async_read_some(buffer_.prepare(kBufferSize / 2),
                            [self = shared_from_this()](error_code error, std::size_t) {
                              if (error) return self->close();
                              self->drain();
                            });
  }

  Server& server_;
  const Address& address_;
  const bool over_limit_;  // one more than we serve, unless another one ends first
  std::optional<std::list<Session*>::iterator> idle_place_;
  std::chrono::steady_clock::time_point idle_since_;
  Socket socket_;
  boost::beast::flat_buffer buffer_{kBufferSize};
  asio::steady_timer deadline_;
  asio::steady_timer wait_;
  PeerUser peer_;
  std::optional<Parser> parser_;
  std::optional<Pending> pending_;
  std::chrono::steady_clock::time_point finish_at_;
  Request request_;
  std::size_t body_bytes_ = 0;
  Response response_;
  std::string head_;
  bool keep_alive_ = false;
  bool http10_ = false;
  bool is_head_ = false;
  bool watching_ = false;
};

// One listening socket.
class Acceptor {
 public:
  Acceptor(Server& server, const Listener& listener)
      : server_(server), listener_(listener), descriptor_(server.io, listener.fd), pause_(server.io) {}

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
    for (;;) {
      if (server_.open >= kMaxConnections + kMaxTurnedAway) return pause();
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
    const bool over_limit = server_.open >= kMaxConnections && !Session::close_an_idle_one(server_);
    if (over_limit) count(options.counters->connections_over_limit);
    if (options.shared_fd_table) fd = move_fd_high(fd);
    const bool is_unix = listener_.address.kind == AddressKind::kUnix;
    const int family = is_unix ? AF_UNIX : listener_.address.kind == AddressKind::kTcp4 ? AF_INET : AF_INET6;
    Socket socket(server_.io);
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
    std::make_shared<Session>(server_, listener_.address, std::move(socket), over_limit)->wait_for_request();
  }

  Server& server_;
  const Listener& listener_;
  asio::posix::stream_descriptor descriptor_;
  asio::steady_timer pause_;
};

// The hint: one thread, no locks at all inside.
Server::Server(const Site& its_site, const HttpServerOptions& its_options)
    : site(its_site), options(its_options), io(BOOST_ASIO_CONCURRENCY_HINT_UNSAFE) {
  for (const Listener& listener : options.listeners) acceptors.emplace_back(*this, listener).wait();
}

bool all_ours(std::span<const Listener> listeners) {
  for (const Listener& listener : listeners) {
    if (!Listeners::is_ours(listener)) return false;
  }
  return true;
}

// Runs handlers until there is a reason to end.
HttpEnd run(Server& server) {
  const HttpServerOptions& options = server.options;
  auto last_open = std::chrono::steady_clock::now();
  for (;;) {
    if (options.stop != nullptr && options.stop->load(std::memory_order_acquire)) return HttpEnd::kStopped;
    if (options.shared_fd_table && !all_ours(options.listeners)) return HttpEnd::kRobbed;
    const auto now = std::chrono::steady_clock::now();
    if (server.open > 0) last_open = now;
    const auto retire_at = last_open + seconds(options.idle_seconds);
    if (options.idle_seconds != 0 && now >= retire_at) return HttpEnd::kIdle;
    // Until when we may sleep although nobody comes.
    auto wake_at = std::chrono::steady_clock::time_point::max();
    if (options.shared_fd_table) wake_at = now + seconds(1);
    if (options.idle_seconds != 0 && server.open == 0) wake_at = std::min(wake_at, retire_at);
    if (const double pause = server.site.tend ? server.site.tend() : 0; pause > 0) {
      const auto length = std::chrono::duration<double>(pause);
      wake_at =
          std::min(wake_at, now + std::chrono::duration_cast<std::chrono::steady_clock::duration>(length));
    }
    if (wake_at == std::chrono::steady_clock::time_point::max()) {
      server.io.run_one();
    } else {
      server.io.run_one_until(wake_at);
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
      return end;
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
