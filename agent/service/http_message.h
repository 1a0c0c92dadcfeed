// A request and a response as the routes see them, free of sockets and of the HTTP library; and the exact
// bytes of a response's head.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace profagent::service {

enum class Method { kGet, kHead, kPost, kPut, kOther };

struct Request {
  Method method = Method::kGet;
  std::string path;   // percent-decoded
  std::string query;  // as it came: /symbol wants it undecoded
  std::string body;
  std::string content_type;
  std::string host;         // the Host header as it came, already found acceptable
  std::string socket_path;  // the Unix socket that it came through; empty for TCP
};

struct Response {
  int status = 200;
  std::vector<std::pair<std::string, std::string>>
      headers;  // Content-Length, Date, Connection are added later
  std::string body;
};

// What a handler answers when all is well; the header that stops browsers from guessing is always there.
[[nodiscard]] Response make_response(std::string_view content_type, std::string body);

// A handler's error, in the form that pprof clients show to their user (X-Go-Pprof and text/plain).
[[nodiscard]] Response make_pprof_error(int status, std::string_view text);

// An error in front of the handlers: wrong path, wrong method, refused.
[[nodiscard]] Response make_plain_error(int status, std::string_view text);

// A redirect inside of this server.
[[nodiscard]] Response make_redirect(std::string_view location);

[[nodiscard]] std::string_view status_text(int status) noexcept;

struct HeadOptions {
  bool http10 = false;
  bool close = false;
  // The answer to a HEAD request has no body and, as in Go, no Content-Length.
  bool without_length = false;
  std::int64_t unix_seconds = 0;
};

// Status line and headers up to and including the empty line, in Go's order: handlers' headers by name, then
// Date, Content-Length, Connection.
[[nodiscard]] std::string format_head(const Response& response, const HeadOptions& options);

// "Mon, 02 Jan 2006 15:04:05 GMT", without libc's time zone lock.
[[nodiscard]] std::string format_http_date(std::int64_t unix_seconds);

// For text that goes into HTML.
[[nodiscard]] std::string escape_html(std::string_view text);

}  // namespace profagent::service
