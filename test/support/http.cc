#include "test/support/http.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace profagent::test {
namespace {

int open_connection(const Address& address) {
  const bool local = !address.unix_path.empty();
  const int fd = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  int result = -1;
  if (local) {
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    address.unix_path.copy(to.sun_path, sizeof to.sun_path - 1);
    result = connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to);
  } else {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(address.port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    result = connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to);
  }
  if (result == 0) return fd;
  close(fd);
  return -1;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

void parse_head(const std::string& head, Response& response) {
  const std::size_t line_end = head.find("\r\n");
  const std::string status_line = head.substr(0, line_end);
  if (status_line.rfind("HTTP/1.", 0) != 0 || status_line.size() < 12)
    throw std::runtime_error("not an HTTP answer: " + status_line);
  response.version = status_line.substr(0, 8);
  response.status = std::stoi(status_line.substr(9, 3));
  for (std::size_t at = line_end + 2; at < head.size();) {
    const std::size_t end = std::min(head.find("\r\n", at), head.size());
    const std::string line = head.substr(at, end - at);
    at = end + 2;
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::size_t value = line.find_first_not_of(' ', colon + 1);
    response.headers[lower(line.substr(0, colon))] = value == std::string::npos ? "" : line.substr(value);
  }
}

}  // namespace

std::string Response::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

Connection::Connection(const Address& address) : fd_(open_connection(address)) {
  if (fd_ < 0) throw std::runtime_error(std::string("cannot connect: ") + strerrordesc_np(errno));
}

Connection::~Connection() {
  if (fd_ >= 0) close(fd_);
}

void Connection::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
}

bool Connection::fill() {
  pollfd waiting{fd_, POLLIN, 0};
  const int timeout = static_cast<int>(std::chrono::milliseconds(kClientTimeout).count());
  if (poll(&waiting, 1, timeout) == 0) throw std::runtime_error("no answer in time");
  char block[65536];
  const ssize_t got = recv(fd_, block, sizeof block, 0);
  if (got <= 0) return false;
  buffer_.append(block, static_cast<std::size_t>(got));
  return true;
}

std::string Connection::read_to_end() {
  while (fill()) {
  }
  return std::exchange(buffer_, {});
}

std::string Connection::read_line() {
  std::size_t end = 0;
  while ((end = buffer_.find("\r\n")) == std::string::npos)
    if (!fill()) throw std::runtime_error("the connection ended before a whole line: '" + buffer_ + "'");
  std::string line = buffer_.substr(0, end);
  buffer_.erase(0, end + 2);
  return line;
}

Response Connection::read_response(bool head) {
  Response response;
  std::size_t head_end = 0;
  while ((head_end = buffer_.find("\r\n\r\n")) == std::string::npos)
    if (!fill()) throw std::runtime_error("the connection ended before a whole header: '" + buffer_ + "'");
  parse_head(buffer_.substr(0, head_end), response);
  buffer_.erase(0, head_end + 4);
  if (head || response.status == 204 || response.status == 304 || response.status < 200) return response;
  const auto take = [this](std::size_t bytes) {
    while (buffer_.size() < bytes)
      if (!fill()) throw std::runtime_error("the connection ended within the body");
    std::string part = buffer_.substr(0, bytes);
    buffer_.erase(0, bytes);
    return part;
  };
  if (lower(response.header("transfer-encoding")) == "chunked") {
    while (true) {
      std::size_t end = 0;
      while ((end = buffer_.find("\r\n")) == std::string::npos)
        if (!fill()) throw std::runtime_error("the connection ended within a chunk");
      const std::size_t size = std::stoul(take(end + 2), nullptr, 16);
      const std::string chunk = take(size + 2);
      if (size == 0) return response;
      response.body += chunk.substr(0, size);
    }
  }
  if (response.has("content-length")) {
    response.body = take(std::stoul(response.header("content-length")));
    return response;
  }
  response.body = read_to_end();
  return response;
}

Response Connection::request(const Request& request) {
  send(to_bytes(request));
  Response response = read_response(request.method == "HEAD");
  while (response.status == 100) response = read_response(request.method == "HEAD");
  return response;
}

void Connection::shut_write() {
  shutdown(fd_, SHUT_WR);
}

void Connection::abort() {
  const linger at_once{1, 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  close(std::exchange(fd_, -1));
}

bool Connection::closed_by_peer() {
  char byte = 0;
  return recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

bool Connection::has_input() const {
  pollfd waiting{fd_, POLLIN, 0};
  return !buffer_.empty() || poll(&waiting, 1, 0) != 0;
}

bool can_connect(const Address& address) {
  const int fd = open_connection(address);
  if (fd >= 0) close(fd);
  return fd >= 0;
}

std::string to_bytes(const Request& request) {
  std::string bytes = request.method + " " + request.target + " " + request.version + "\r\n";
  if (request.headers.count("Host") == 0) bytes += "Host: localhost\r\n";
  for (const auto& [name, value] : request.headers) bytes += name + ": " + value + "\r\n";
  const bool framed = request.headers.count("Transfer-Encoding") != 0;
  if (!request.body.empty() && !framed)
    bytes += "Content-Length: " + std::to_string(request.body.size()) + "\r\n";
  return bytes + "\r\n" + request.body;
}

Response http(const Address& address, const Request& request) {
  return Connection(address).request(request);
}

Response http_get(const Address& address, const std::string& target) {
  return http(address, Request{.target = target});
}

}  // namespace profagent::test
