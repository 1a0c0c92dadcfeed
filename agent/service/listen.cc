#include "agent/service/listen.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "agent/safe/events.h"
#include "agent/safe/sys.h"
#include "agent/service/fd_table.h"
#include "agent/service/listen_unix.h"
#include "agent/service/server_errno.h"

namespace profagent::service {

namespace {

namespace sys = safe::sys;
using sys::address_of;

constexpr int kBacklog = 128;

socklen_t fill(const Address& address, sockaddr_storage* storage) noexcept {
  *storage = {};
  if (address.kind == AddressKind::kUnix) {
    sockaddr_un name = {};
    name.sun_family = AF_UNIX;
    std::memcpy(name.sun_path, address.path.c_str(), address.path.view().size());
    std::memcpy(storage, &name, sizeof(name));
    return sizeof(name);
  }
  if (address.kind == AddressKind::kTcp4) {
    sockaddr_in name = {};
    name.sin_family = AF_INET;
    name.sin_port = htons(address.port);
    std::memcpy(&name.sin_addr, address.ip, 4);
    std::memcpy(storage, &name, sizeof(name));
    return sizeof(name);
  }
  sockaddr_in6 name = {};
  name.sin6_family = AF_INET6;
  name.sin6_port = htons(address.port);
  std::memcpy(&name.sin6_addr, address.ip, 16);
  std::memcpy(storage, &name, sizeof(name));
  return sizeof(name);
}

// A bound and listening socket, or a negative errno.
long listen_on(const Address& address) noexcept {
  const int family = address.kind == AddressKind::kTcp4 ? AF_INET : AF_INET6;
  const long fd = sys::call(SYS_socket, family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return fd;
  const int yes = 1;
  // A restarted service gets its port although old connections still time out.
  sys::call(SYS_setsockopt, fd, SOL_SOCKET, SO_REUSEADDR, address_of(&yes), sizeof(yes));
  if (family == AF_INET6)
    sys::call(SYS_setsockopt, fd, IPPROTO_IPV6, IPV6_V6ONLY, address_of(&yes), sizeof(yes));
  sockaddr_storage name;
  const socklen_t length = fill(address, &name);
  long done = sys::call(SYS_bind, fd, address_of(&name), length);
  if (done >= 0) done = sys::call(SYS_listen, fd, kBacklog);
  if (done >= 0) return fd;
  sys::call(SYS_close, fd);
  return done;
}

std::uint16_t bound_port(long fd) noexcept {
  sockaddr_storage name = {};
  socklen_t length = sizeof(name);
  if (sys::call(SYS_getsockname, fd, address_of(&name), address_of(&length)) < 0) return 0;
  // The port stands at the same place in both families.
  static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));
  sockaddr_in v4;
  std::memcpy(&v4, &name, sizeof(v4));
  return ntohs(v4.sin_port);
}

}  // namespace

void Listeners::open(const AddressList& addresses, pid_t pid) noexcept {
  count_ = 0;
  owner_ = pid;
  problems_.clear();
  for (std::size_t i = 0; i < addresses.count; ++i) {
    if (addresses.items[i].kind == AddressKind::kUnix) {
      open_unix(addresses.items[i]);
    } else {
      open_tcp(addresses.items[i]);
    }
  }
  if (any()) open_wake_up();
}

void Listeners::open_tcp(Address address) noexcept {
  FixedText<160> wanted;
  describe(address, &wanted);
  long fd = -EADDRINUSE;
  for (; address.port <= address.last_port; ++address.port) {
    fd = listen_on(address);
    if (fd != -EADDRINUSE || address.port == address.last_port) break;
  }
  if (fd < 0) {
    problems_.add(wanted.view()).add(": cannot listen: ").add(errno_name(-fd)).add("\n");
    return;
  }
  address.port = bound_port(fd);
  adopt(static_cast<int>(fd), address);
}

void Listeners::open_unix(const Address& address) noexcept {
  for (const Listener& listener : all()) {
    if (listener.address.kind != AddressKind::kUnix || listener.address.path.view() != address.path.view())
      continue;
    problems_.add("unix://").add(address.path.view()).add(": is listed twice\n");
    return;
  }
  const UnixSocket opened = open_unix_socket(address, &problems_);
  if (opened.fd < 0) return;
  adopt(opened.fd, address);
  items_[count_ - 1].file_device = opened.file_device;
  items_[count_ - 1].file_inode = opened.file_inode;
}

// One socket that is connected to itself: one descriptor, with an inode of its own, which an eventfd has not.
void Listeners::open_wake_up() noexcept {
  const long fd = sys::call(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return;
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  // Only the family: the kernel picks a free abstract name. Once connected, nobody else can send to it.
  socklen_t length = sizeof(sa_family_t);
  long done = sys::call(SYS_bind, fd, address_of(&name), length);
  length = sizeof(name);
  if (done >= 0) done = sys::call(SYS_getsockname, fd, address_of(&name), address_of(&length));
  if (done >= 0) done = sys::call(SYS_connect, fd, address_of(&name), length);
  if (done < 0) {
    sys::call(SYS_close, fd);
    return;
  }
  adopt(static_cast<int>(fd), Address());
  items_[count_ - 1].is_wake_up = true;
}

void Listeners::adopt(int fd, const Address& address) noexcept {
  Listener& listener = items_[count_++];
  listener = Listener();
  listener.fd = move_fd_high(fd);
  listener.address = address;
  struct stat status = {};
  sys::call(SYS_fstat, listener.fd, address_of(&status));
  listener.device = status.st_dev;
  listener.inode = status.st_ino;
}

bool Listeners::any() const noexcept {
  return count_ > 0 && !items_[0].is_wake_up;
}

bool Listeners::is_ours(const Listener& listener) noexcept {
  struct stat status = {};
  return listener.fd >= 0 && sys::call(SYS_fstat, listener.fd, address_of(&status)) == 0 &&
         status.st_dev == listener.device && status.st_ino == listener.inode;
}

bool Listeners::are_ours(std::span<const Listener> listeners) noexcept {
  return std::all_of(listeners.begin(), listeners.end(), is_ours);
}

bool Listeners::client_is_waiting() const noexcept {
  pollfd polled[kMaxAddresses];
  std::size_t count = 0;
  for (const Listener& listener : all()) {
    if (!listener.is_wake_up && is_ours(listener)) polled[count++] = {listener.fd, POLLIN, 0};
  }
  return sys::call(SYS_poll, address_of(polled), static_cast<long>(count), 0) > 0;
}

void Listeners::notify_by_signal(int signal) const noexcept {
  for (const Listener& listener : all()) {
    if (listener.is_wake_up || !is_ours(listener)) continue;
    // Never F_SETSIG 0: it means SIGIO, which would end the program if a client came before O_ASYNC is off.
    if (signal != 0) sys::call(SYS_fcntl, listener.fd, F_SETSIG, signal);
    sys::call(SYS_fcntl, listener.fd, F_SETOWN, sys::getpid());
    sys::call(SYS_fcntl, listener.fd, F_SETFL, O_RDWR | O_NONBLOCK | (signal != 0 ? O_ASYNC : 0));
  }
}

bool Listeners::wake() const noexcept {
  for (const Listener& listener : all()) {
    if (!listener.is_wake_up || !is_ours(listener)) continue;
    const char byte = 0;
    const long sent =
        sys::call(SYS_sendto, listener.fd, address_of(&byte), 1, MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
    // A full queue wakes as well.
    return sent == 1 || sent == -EAGAIN;
  }
  return false;
}

void Listeners::connect_once() const noexcept {
  if (!any()) return;
  const Address& address = items_[0].address;
  sockaddr_storage name;
  const socklen_t length = fill(address, &name);
  const long fd = sys::call(SYS_socket, name.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return;
  sys::call(SYS_connect, fd, address_of(&name), length);
  sys::call(SYS_close, fd);
}

void Listeners::close_all() noexcept {
  for (std::size_t i = 0; i < count_; ++i) {
    if (is_ours(items_[i])) sys::call(SYS_close, items_[i].fd);
  }
  count_ = 0;
}

void Listeners::unlink_files() noexcept {
  if (!safe::may_ask_kernel() || sys::getpid() != owner_) return;
  for (const Listener& listener : all()) {
    if (listener.is_wake_up || listener.address.kind != AddressKind::kUnix) continue;
    unlink_unix_socket(listener.address.path, listener.file_device, listener.file_inode);
  }
}

void describe(const Address& address, FixedText<160>* out) noexcept {
  out->clear();
  if (address.kind == AddressKind::kUnix) {
    out->add("unix://").add(address.path.view());
    return;
  }
  char text[INET6_ADDRSTRLEN] = {};
  const bool v4 = address.kind == AddressKind::kTcp4;
  inet_ntop(v4 ? AF_INET : AF_INET6, address.ip, text, sizeof(text));
  out->add(v4 ? "" : "[").add(text).add(v4 ? ":" : "]:").add(std::uint64_t{address.port});
}

}  // namespace profagent::service
