#include "agent/service/access.h"

#include <algorithm>
#include <charconv>
#include <cstdint>

namespace profagent::service {

namespace {

bool equal_ignoring_case(std::string_view left, std::string_view right) noexcept {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                    [&](char a, char b) { return lower(a) == lower(b); });
}

bool is_port(std::string_view text) noexcept {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size();
}

// Takes the same time whatever the number of leading bytes that agree.
bool equal_in_constant_time(std::string_view left, std::string_view right) noexcept {
  if (left.size() != right.size()) return false;
  unsigned difference = 0;
  for (std::size_t i = 0; i < left.size(); ++i) difference |= static_cast<unsigned char>(left[i] ^ right[i]);
  return difference == 0;
}

// Empty when it is not base64, which no token is.
std::string decode_base64(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  constexpr unsigned kBitsOfDigit = 6;
  constexpr unsigned kBitsOfByte = 8;
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string bytes;
  unsigned held = 0;
  unsigned bits = 0;
  for (const char c : text) {
    const std::size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) return {};
    held = (held << kBitsOfDigit | static_cast<unsigned>(digit)) & 0xffff;
    bits += kBitsOfDigit;
    if (bits < kBitsOfByte) continue;
    bits -= kBitsOfByte;
    bytes += static_cast<char>(held >> bits & 0xff);
  }
  return bytes;
}

}  // namespace

AccessPolicy parse_allowed_uids(std::string_view text, std::string* problem) {
  AccessPolicy policy;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    const std::string_view word = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
    uid_t uid = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), uid);
    if (word == "*") {
      policy.any_uid = true;
    } else if (!word.empty() && error == std::errc() && end == word.data() + word.size()) {
      policy.uids.push_back(uid);
    } else if (problem != nullptr) {
      *problem = "PROFAGENT_ALLOW_UIDS: \"" + std::string(word) + "\" is neither a numeric uid nor *";
    }
  }
  return policy;
}

std::optional<std::string> refuse_peer(const AccessPolicy& policy, const PeerUser& peer, uid_t own_uid) {
  if (policy.any_uid) return std::nullopt;
  if (!peer.uid) {
    return "profagent cannot tell which user is asking (" + peer.unknown_because +
           "). Use the Unix socket, or set PROFAGENT_ALLOW_UIDS=* to serve every local user.";
  }
  if (*peer.uid == own_uid || *peer.uid == 0) return std::nullopt;
  if (std::find(policy.uids.begin(), policy.uids.end(), *peer.uid) != policy.uids.end()) return std::nullopt;
  return "profagent serves uid " + std::to_string(own_uid) + " and root, and you are uid " +
         std::to_string(*peer.uid) +
         ". Ask as that user, or start the program with PROFAGENT_ALLOW_UIDS=" + std::to_string(*peer.uid) +
         ".";
}

std::optional<std::string> refuse_token(const AccessPolicy& policy, std::string_view authorization) {
  if (policy.bearer_token.empty()) {
    return "profagent serves remote clients only with a token, and it has been given none; ask on loopback.";
  }
  const auto credentials = [&](std::string_view scheme) -> std::optional<std::string_view> {
    if (!equal_ignoring_case(authorization.substr(0, scheme.size()), scheme)) return std::nullopt;
    return authorization.substr(scheme.size());
  };
  std::string shown;
  if (const auto bearer = credentials("Bearer ")) {
    shown = *bearer;
  } else if (const auto basic = credentials("Basic ")) {
    const std::string user_and_password = decode_base64(*basic);
    const std::size_t colon = user_and_password.find(':');
    if (colon != std::string::npos) shown = user_and_password.substr(colon + 1);
  }
  if (equal_in_constant_time(shown, policy.bearer_token)) return std::nullopt;
  return "profagent wants the token of PROFAGENT_TOKEN_FILE, in the header \"Authorization: Bearer TOKEN\" "
         "or "
         "as a password: go tool pprof http://x:TOKEN@host:port/debug/pprof/heap";
}

bool is_own_host(std::string_view host) noexcept {
  for (const std::string_view name : {"localhost", "127.0.0.1", "[::1]"}) {
    if (!equal_ignoring_case(host.substr(0, name.size()), name)) continue;
    const std::string_view rest = host.substr(name.size());
    if (rest.empty() || (rest.front() == ':' && is_port(rest.substr(1)))) return true;
  }
  return false;
}

bool is_own_origin(std::string_view origin, std::string_view host) noexcept {
  constexpr std::string_view kScheme = "http://";
  return origin.substr(0, kScheme.size()) == kScheme &&
         equal_ignoring_case(origin.substr(kScheme.size()), host);
}

}  // namespace profagent::service
