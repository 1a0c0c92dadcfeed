// Any bytes, sent over a connection to the service itself: its HTTP library, its sessions and its routes. The
// first byte says in pieces of which size they come (0: at once). Whatever comes, the server answers with
// whole HTTP responses, then closes; a session that stays is found by the client's patience.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "test/unit/http_test_server.h"

namespace profagent::test {
namespace {

void expect(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

// Takes one line without its CR LF, which nothing else may be in.
std::string_view take_line(std::string_view* text) {
  const std::size_t end = text->find("\r\n");
  expect(end != std::string_view::npos, "a head ends with an empty line");
  const std::string_view line = text->substr(0, end);
  text->remove_prefix(end + 2);
  for (const char c : line) expect(c >= ' ' && c <= '~', "a head is printable ASCII");
  return line;
}

void take_response(std::string_view* text) {
  const std::string_view status = take_line(text);
  const bool is_status =
      status.size() > 13 && (status.starts_with("HTTP/1.1 ") || status.starts_with("HTTP/1.0 "));
  expect(is_status && status[12] == ' ', "a status line");
  std::size_t length = 0;
  for (;;) {
    const std::string_view line = take_line(text);
    if (line.empty()) break;
    expect(line.find(": ") != std::string_view::npos, "a header has a name and a value");
    constexpr std::string_view kLength = "Content-Length: ";
    if (line.starts_with(kLength)) length = std::strtoul(line.data() + kLength.size(), nullptr, 10);
  }
  expect(text->size() >= length, "a body is as long as its head says");
  text->remove_prefix(length);
}

}  // namespace
}  // namespace profagent::test

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace profagent::test;
  static const auto* const server = new TestServer();  // lives as long as the process
  if (size == 0) return 0;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::size_t piece = data[0] == 0 ? size : data[0];

  const Client client(server->socket_path());
  while (!bytes.empty() && client.send(bytes.substr(0, piece))) {
    bytes.remove_prefix(bytes.size() < piece ? bytes.size() : piece);
  }
  client.finish_sending();
  // Less than an idle connection may live.
  const std::string answer = client.read_all(std::chrono::seconds(60));
  expect(!answer.ends_with("<silence>"), "the server ends the connection");
  expect(number_fact(*server, "restarts") == 0, "no exception and no assertion reaches the loop");
  std::string_view rest(answer);
  // A reset can overtake an answer when the client has sent on after it.
  if (rest.ends_with("<reset>")) return 0;
  while (!rest.empty()) take_response(&rest);
  return 0;
}
