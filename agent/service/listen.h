// The sockets that wait for clients. They are opened on a thread of the program, while it starts or inside a
// hook, so nothing here allocates, throws, blocks, or calls a libc function that a hook of ours stands in
// front of.
//
// They live in the program's descriptor table: close-on-exec and high, so that the program's own numbers stay
// what they were. The program may close them behind our back (closefrom) and get the numbers again for its
// files, so whoever uses one asks is_ours() first, and never closes what is not ours.
//
// A failure to open is a text in problems(), never more.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <sys/types.h>

#include "agent/service/listen_address.h"

namespace profagent::service {

struct Listener {
  int fd = -1;
  dev_t device = 0;
  ino_t inode = 0;
  bool is_wake_up = false;  // not a listener: a datagram socket that stop() writes to
  Address address;          // as bound: with the port that was free
  // The socket's file, to unlink only what we made.
  dev_t file_device = 0;
  ino_t file_inode = 0;
};

class Listeners {
 public:
  // Opens all that can be opened; once. `pid` is the owner: only it unlinks.
  void open(const AddressList& addresses, pid_t pid) noexcept;

  // For the thread that serves. The last one is the wake-up socket.
  [[nodiscard]] std::span<const Listener> all() const noexcept { return {items_, count_}; }
  // True when at least one address is being listened on.
  [[nodiscard]] bool any() const noexcept;

  // True when the descriptor still is the socket that we opened.
  [[nodiscard]] static bool is_ours(const Listener& listener) noexcept;
  [[nodiscard]] static bool are_ours(std::span<const Listener> listeners) noexcept;

  // A client waits to be accepted. For a hook, before it starts the thread; one system call.
  [[nodiscard]] bool client_is_waiting() const noexcept;

  // Asks the kernel to send `signal` (one that is ignored by default) to the process whenever a client
  // connects.
  void notify_by_signal(int signal) const noexcept;

  // Makes the serving thread look up; false when the wake-up socket is gone.
  bool wake() const noexcept;

  // The same through one of the addresses, when the program has closed the wake-up socket.
  void connect_once() const noexcept;

  // In the child of a fork, or before opening elsewhere: closes what is still ours, unlinks nothing.
  void close_all() noexcept;

  // At exit: removes our socket files, when this is the process that made them.
  void unlink_files() noexcept;

  [[nodiscard]] std::string_view problems() const noexcept { return problems_.view(); }

 private:
  void open_tcp(Address address) noexcept;
  void open_unix(const Address& address) noexcept;
  void open_wake_up() noexcept;
  void adopt(int fd, const Address& address) noexcept;

  Listener items_[kMaxAddresses + 1];
  std::size_t count_ = 0;
  pid_t owner_ = 0;
  ProblemText problems_;
};

// "127.0.0.1:6060", "[::1]:6060" or "unix:///path".
void describe(const Address& address, FixedText<160>* out) noexcept;

}  // namespace profagent::service
