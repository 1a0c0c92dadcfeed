// PROFAGENT_ADDR as addresses to bind. Numbers and "localhost" only: no resolver, which would load plugins
// and open files. Allocates nothing, throws nothing: called while the program starts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <sys/types.h>

#include "agent/service/listen_text.h"

namespace profagent::service {

inline constexpr std::size_t kMaxAddresses = 8;
inline constexpr std::uint16_t kDefaultPort = 6060;
inline constexpr std::uint16_t kLastDefaultPort = 6159;

// As long as sockaddr_un has room for.
using SocketPath = FixedText<108>;

enum class AddressKind : std::uint8_t { kTcp4, kTcp6, kUnix };

struct Address {
  AddressKind kind = AddressKind::kTcp4;
  std::uint8_t ip[16] = {};
  std::uint16_t port = 0;
  std::uint16_t last_port = 0;  // tried in turn while taken
  SocketPath path;
  bool own_folder = false;  // the folder of `path` is ours to make, 0700

  [[nodiscard]] bool is_loopback() const noexcept;
};

struct AddressList {
  Address items[kMaxAddresses];
  std::size_t count = 0;
};

// Whether addresses that other machines can reach may be served.
enum class Remote : std::uint8_t { kForbidden, kLacksToken, kAllowed };

// What the placeholders %p %e %h %t %n stand for, and where the default socket goes.
struct AddressFacts {
  pid_t pid = 0;
  uid_t uid = 0;
  std::string_view executable;  // base name
  std::string_view host;        // of the machine
  std::uint64_t unix_time = 0;
  std::uint64_t counter = 0;     // of forks, so that a child's differs
  std::string_view runtime_dir;  // $XDG_RUNTIME_DIR
  Remote remote = Remote::kForbidden;
};

// Writes `text` with its placeholders filled in. '/' in a value becomes '_', so that no value can leave its
// folder.
void expand_placeholders(std::string_view text, const AddressFacts& facts, SocketPath* out) noexcept;

// Parses `text` (empty: the defaults). Whatever cannot be used is left out and said in `problems`.
// "off" gives an empty list.
void parse_addresses(std::string_view text, const AddressFacts& facts, AddressList* list,
                     ProblemText* problems) noexcept;

}  // namespace profagent::service
