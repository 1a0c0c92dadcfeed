#include "agent/service/listen_address.h"

#include <cstring>

#include <arpa/inet.h>

namespace profagent::service {

namespace {

constexpr std::string_view kUnixScheme = "unix://";

bool parse_port(std::string_view text, std::uint16_t* port) noexcept {
  if (text.empty() || text.size() > 5) return false;
  unsigned value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    value = value * 10 + static_cast<unsigned>(c - '0');
  }
  if (value > 65535) return false;
  *port = static_cast<std::uint16_t>(value);
  return true;
}

bool parse_ip(std::string_view host, Address* address) noexcept {
  if (host.empty() || host == "localhost") host = "127.0.0.1";
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  char text[64];
  if (host.size() >= sizeof(text)) return false;
  std::memcpy(text, host.data(), host.size());
  text[host.size()] = '\0';
  address->kind = bracketed ? AddressKind::kTcp6 : AddressKind::kTcp4;
  return inet_pton(bracketed ? AF_INET6 : AF_INET, text, address->ip) == 1;
}

void complain(std::string_view word, std::string_view what, ProblemText* problems) noexcept {
  problems->add("PROFAGENT_ADDR: \"").add(word).add("\" ").add(what).add("\n");
}

bool parse_unix(std::string_view word, const AddressFacts& facts, Address* address,
                ProblemText* problems) noexcept {
  address->kind = AddressKind::kUnix;
  expand_placeholders(word.substr(kUnixScheme.size()), facts, &address->path);
  if (address->path.was_cut()) {
    complain(word, "is too long for a Unix socket", problems);
    return false;
  }
  const std::string_view path = address->path.view();
  if (path.empty() || path.front() != '/' || path.back() == '/') {
    complain(word, "is not the absolute path of a file", problems);
    return false;
  }
  return true;
}

bool parse_tcp(std::string_view word, const AddressFacts& facts, Address* address,
               ProblemText* problems) noexcept {
  const std::size_t colon = word.rfind(':');
  if (colon == std::string_view::npos || !parse_port(word.substr(colon + 1), &address->port) ||
      !parse_ip(word.substr(0, colon), address)) {
    complain(word, "is not host:port with a numeric host, :port, unix:///path or off", problems);
    return false;
  }
  address->last_port = address->port;
  if (!address->is_loopback() && facts.remote != Remote::kAllowed) {
    complain(word,
             facts.remote == Remote::kForbidden
                 ? "is not on loopback; profiles tell much about a program, so this needs "
                   "PROFAGENT_ALLOW_REMOTE=1 and PROFAGENT_TOKEN_FILE"
                 : "is not on loopback, and the token of PROFAGENT_TOKEN_FILE cannot be used",
             problems);
    return false;
  }
  return true;
}

void append(const Address& address, AddressList* list) noexcept {
  if (list->count < kMaxAddresses) list->items[list->count++] = address;
}

void add_defaults(const AddressFacts& facts, AddressList* list) noexcept {
  Address tcp;
  parse_ip("", &tcp);
  tcp.port = kDefaultPort;
  tcp.last_port = kLastDefaultPort;
  append(tcp, list);

  Address local;
  local.kind = AddressKind::kUnix;
  local.own_folder = true;
  if (!facts.runtime_dir.empty() && facts.runtime_dir.front() == '/') {
    local.path.add(facts.runtime_dir)
        .add("/profagent/")
        .add(static_cast<std::uint64_t>(facts.pid))
        .add(".sock");
  }
  if (local.path.empty() || local.path.was_cut()) {
    local.path.clear();
    local.path.add("/tmp/profagent-")
        .add(facts.uid)
        .add("/")
        .add(static_cast<std::uint64_t>(facts.pid))
        .add(".sock");
  }
  append(local, list);
}

}  // namespace

bool Address::is_loopback() const noexcept {
  if (kind == AddressKind::kUnix) return true;
  if (kind == AddressKind::kTcp4) return ip[0] == 127;
  static constexpr std::uint8_t kLoopback[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return std::memcmp(ip, kLoopback, sizeof(ip)) == 0;
}

void expand_placeholders(std::string_view text, const AddressFacts& facts, SocketPath* out) noexcept {
  const auto add_value = [out](std::string_view value) {
    for (const char c : value) out->add(c == '/' ? "_" : std::string_view(&c, 1));
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char kind = text[i] == '%' && i + 1 < text.size() ? text[i + 1] : '\0';
    if (kind == 'p') {
      out->add(static_cast<std::uint64_t>(facts.pid));
    } else if (kind == 'e') {
      add_value(facts.executable);
    } else if (kind == 'h') {
      add_value(facts.host);
    } else if (kind == 't') {
      out->add(facts.unix_time);
    } else if (kind == 'n') {
      out->add(facts.counter);
    } else if (kind == '%') {
      out->add("%");
    } else {
      out->add(text.substr(i, 1));
      continue;
    }
    ++i;
  }
}

void parse_addresses(std::string_view text, const AddressFacts& facts, AddressList* list,
                     ProblemText* problems) noexcept {
  list->count = 0;
  if (text.empty()) return add_defaults(facts, list);
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    const std::string_view word = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
    if (word.empty()) continue;
    if (word == "off") {
      list->count = 0;
      return;
    }
    Address address;
    const bool is_unix = word.substr(0, kUnixScheme.size()) == kUnixScheme;
    const bool good =
        is_unix ? parse_unix(word, facts, &address, problems) : parse_tcp(word, facts, &address, problems);
    if (good) append(address, list);
  }
}

}  // namespace profagent::service
