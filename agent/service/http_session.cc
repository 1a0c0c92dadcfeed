#include "agent/service/http_session.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <memory>
#include <optional>
#include <string>

#include <unistd.h>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>

#include "agent/safe/clock.h"
#include "agent/service/http_screen.h"
#include "agent/service/own_memory.h"

namespace profagent::service {

namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using Socket = asio::generic::stream_protocol::socket;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

// All bodies at a time. An answer needs several times the memory of its body, and there are 256 MiB of it.
constexpr std::size_t kMaxBodies = 2 * kLargestBody;
constexpr std::uint32_t kMaxHeader = 16 << 10;
// Room for a header, and for what a client sends ahead while it waits.
constexpr std::size_t kBufferSize = 64 << 10;
constexpr std::string_view kTooLarge = "413 Request Entity Too Large";

constexpr seconds kIdleDeadline(90);  // between requests; Go's client keeps a connection for 90 s
constexpr seconds kBodyDeadline(60);
// For each so many bytes of an answer: a client that reads slower than that is not waited for.
constexpr seconds kWriteDeadline(60);
constexpr std::size_t kWriteStep = 256 << 10;
constexpr seconds kLingerDeadline(2);

// Errors of the client's HTTP; all others are errors of the connection.
const boost::system::error_category& http_category() {
  return http::make_error_code(http::error::bad_method).category();
}

std::string_view to_std(boost::beast::string_view text) {
  return {text.data(), text.size()};
}

// Before anything has come.
Standing standing_of(const AccessPolicy& policy, const PeerUser& peer) {
  if (peer.remote) return policy.bearer_token.empty() ? Standing::kRefused : Standing::kUnproven;
  return refuse_peer(policy, peer, geteuid()) ? Standing::kRefused : Standing::kAllowed;
}

// One connection. Lives as long as a handler refers to it.
class Session final : public std::enable_shared_from_this<Session>, public Guest {
 public:
  Session(HttpShared& shared, const Address& address, Socket socket)
      : shared_(shared),
        address_(address),
        socket_(std::move(socket)),
        deadline_(shared.io),
        wait_(shared.io),
        peer_(find_peer_user(socket_.native_handle())),
        place_(shared.places, *this, standing_of(shared.site.access, peer_), Clock::now()) {
    socket_.non_blocking(true);
    ++shared_.sessions;
    tell_sessions();
  }

  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  ~Session() {
    release_body();
    if (--shared_.sessions == 0) own_memory::trim();
    tell_sessions();
  }

  void wait_for_request() {
    parser_.reset();
    if (buffer_.size() > 0) return read_header();
    set_deadline(place_.may_stay() ? kIdleDeadline : kHeaderDeadline);
    place_.begin_idle(Clock::now());
    socket_.async_wait(Socket::wait_read, [self = shared_from_this()](error_code error) {
      if (!error) self->read_header();
    });
  }

  // Closing ends every operation, and with them the session.
  void close() override {
    error_code ignored;
    place_.leave();
    deadline_.cancel();
    wait_.cancel();
    socket_.close(ignored);
  }

  bool has_unread() override {
    error_code ignored;
    return socket_.available(ignored) > 0;
  }

 private:
  using Parser = http::request_parser<http::string_body>;

  void tell_sessions() const {
    shared_.counters.connections_open.store(shared_.sessions, std::memory_order_relaxed);
  }

  // Does not keep the session alive: one that an exception has left without an operation ends at once.
  void set_deadline(seconds after) {
    deadline_.expires_after(after);
    deadline_.async_wait([session = weak_from_this()](error_code error) {
      const auto self = session.lock();
      // The deadline may have been moved while this handler was already queued.
      if (error || !self || self->deadline_.expiry() > Clock::now()) return;
      if (self->parser_) count(self->shared_.counters.requests_broken);
      self->close();
    });
  }

  void read_header() {
    place_.end_idle();
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
    count(shared_.counters.requests_broken);
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
    count(shared_.counters.requests);
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

    Screened screened = screen(header, shared_.site.access, peer_, address_, geteuid());
    if (screened.refusal) {
      const int status = screened.refusal->status;
      // Who may not ask keeps nobody else's place.
      const bool may_not_ask = status == 401 || status == 403;
      if (may_not_ask) {
        count(shared_.counters.requests_refused);
        place_.refuse();
      }
      // The body of a refused request is not read, so the connection ends with it.
      keep_alive_ = keep_alive_ && parser_->is_done() && !may_not_ask;
      return respond(std::move(*screened.refusal));
    }
    place_.let_in(Clock::now());
    if (place_.is_turned_away()) {
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
    if (shared_.body_bytes + room > kMaxBodies) return false;
    body_bytes_ = room;
    shared_.body_bytes += room;
    return true;
  }

  void release_body() {
    shared_.body_bytes -= body_bytes_;
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
    // Closed for somebody else while this was queued.
    if (!socket_.is_open()) return;
    // Also for a handler that is queued already.
    deadline_.expires_at(Clock::time_point::max());
    guarded([this] {
      Answer answer = handle(shared_.site, request_);
      if (auto* response = std::get_if<Response>(&answer)) return respond(std::move(*response));
      collect(std::move(std::get<Pending>(answer)));
    });
  }

  void collect(Pending pending) {
    pending_.emplace(std::move(pending));
    const auto length = std::chrono::duration<double>(pending_->seconds);
    finish_at_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(length);
    tend();
    watch_client();
  }

  // Waits for the end of the collection, or until it wants to be tended before that.
  void tend() {
    const double seconds_until_next = pending_->tend ? pending_->tend() : 0;
    const auto pause = std::chrono::duration<double>(seconds_until_next);
    const auto next = Clock::now() + std::chrono::duration_cast<Clock::duration>(pause);
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
      count(shared_.counters.requests_cancelled);
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
      count(shared_.counters.errors);
      try {
        respond(make_pprof_error(500, error.what()));
      } catch (...) {
        // No memory for that either. What waits for the client's next byte would keep the session, without a
        // deadline.
        close();
        throw;
      }
    }
  }

  void respond(Response response) {
    response_ = std::move(response);
    HeadOptions head;
    head.http10 = http10_;
    head.close = !keep_alive_;
    head.without_length = is_head_;
    head.unix_seconds = safe::now_by(CLOCK_REALTIME) / safe::kNanosPerSecond;
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

  HttpShared& shared_;
  const Address& address_;
  Socket socket_;
  boost::beast::flat_buffer buffer_{kBufferSize};
  asio::steady_timer deadline_;
  asio::steady_timer wait_;
  PeerUser peer_;
  Place place_;
  std::optional<Parser> parser_;
  std::optional<Pending> pending_;
  Clock::time_point finish_at_;
  Request request_;
  std::size_t body_bytes_ = 0;
  Response response_;
  std::string head_;
  bool keep_alive_ = false;
  bool http10_ = false;
  bool is_head_ = false;
  bool watching_ = false;
};

}  // namespace

// The hint: one thread, no locks at all inside.
HttpShared::HttpShared(const Site& its_site, ServiceCounters& its_counters)
    : site(its_site), counters(its_counters), places(its_counters), io(BOOST_ASIO_CONCURRENCY_HINT_UNSAFE) {}

void begin_session(HttpShared& shared, const Address& address, Socket socket) {
  std::make_shared<Session>(shared, address, std::move(socket))->wait_for_request();
}

}  // namespace profagent::service
