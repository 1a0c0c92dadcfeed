// A plain HTTP/1.1 client over TCP on loopback or a Unix socket: no pooling, no redirects, nothing decoded,
// so that a test sees what came over the wire. Every wait is bounded (kClientTimeout); what goes wrong throws
// std::runtime_error.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace profagent::test {

inline constexpr std::chrono::seconds kClientTimeout{60};

struct Address {
  std::string unix_path;   // used when not empty,
  std::uint16_t port = 0;  // else 127.0.0.1:port
  [[nodiscard]] static Address unix_socket(std::string path) { return {std::move(path), 0}; }
  [[nodiscard]] static Address tcp(std::uint16_t port) { return {{}, port}; }
};

struct Response {
  int status = 0;
  std::string version;                         // "HTTP/1.1"
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // without the chunk frame
  [[nodiscard]] bool has(const std::string& name) const { return headers.count(name) != 0; }
  // The value of a header (its name in lower case), "" when there is none.
  [[nodiscard]] std::string header(const std::string& name) const;
};

struct Request {
  std::string method = "GET";
  std::string target;
  std::map<std::string, std::string> headers = {};  // a Host of its own replaces the default
  std::string body = {};
  std::string version = "HTTP/1.1";
};

// One connection; request() may be called again while the server keeps it open.
class Connection {
 public:
  explicit Connection(const Address& address);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  Response request(const Request& request);
  void send(std::string_view bytes);  // raw; a peer that closed is not an error
  // All bytes until the peer closes or resets.
  std::string read_to_end();
  // One line, without its CR LF.
  std::string read_line();
  // Reads one response; `head` says that no body follows whatever the headers announce.
  Response read_response(bool head = false);
  void shut_write();
  // Ends with a reset instead of an orderly close.
  void abort();
  // True when the peer has closed and nothing is left to read.
  [[nodiscard]] bool closed_by_peer();
  // True when there is something to read, or the peer has closed.
  [[nodiscard]] bool has_input() const;

 private:
  bool fill();  // false at the end of the stream
  int fd_ = -1;
  std::string buffer_;
};

[[nodiscard]] bool can_connect(const Address& address);
Response http(const Address& address, const Request& request);
Response http_get(const Address& address, const std::string& target);
[[nodiscard]] std::string to_bytes(const Request& request);

}  // namespace profagent::test
