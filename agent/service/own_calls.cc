// What the libraries inside of us call to wait and to receive. Under these names the program's libraries, or
// ones that are preloaded, may have functions of their own, which are not for our thread: the linker (--wrap)
// leads our calls here, to the kernel.
#include <cerrno>
#include <csignal>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>

#include "agent/safe/sys.h"

namespace {

namespace sys = profagent::safe::sys;
using sys::address_of;

template <typename Result = int>
Result answer(long result) noexcept {
  if (result >= 0) return static_cast<Result>(result);
  errno = static_cast<int>(-result);
  return -1;
}

}  // namespace

// NOLINTBEGIN(bugprone-reserved-identifier): the linker's names
extern "C" {

int __wrap_epoll_wait(int epoll, epoll_event* events, int most, int timeout_ms) {
  return answer(sys::call(SYS_epoll_wait, epoll, address_of(events), most, timeout_ms));
}

int __wrap_poll(pollfd* polled, nfds_t count, int timeout_ms) {
  return answer(sys::call(SYS_poll, address_of(polled), static_cast<long>(count), timeout_ms));
}

int __wrap_select(int end, fd_set* readable, fd_set* writable, fd_set* exceptional, timeval* timeout) {
  return answer(sys::call(SYS_select, end, address_of(readable), address_of(writable),
                          address_of(exceptional), address_of(timeout)));
}

ssize_t __wrap_recv(int socket, void* buffer, std::size_t size, int flags) {
  return answer<ssize_t>(sys::call(SYS_recvfrom, socket, address_of(buffer), static_cast<long>(size), flags));
}

int __wrap_pause() {
  return answer(sys::call(SYS_pause));
}

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier)
