// Waits for input, time, signals and children. All are cancellation points. A call that says that it does not
// want to wait is not one; of the others only the length tells whether they have waited.
#include <csignal>
#include <cstddef>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <threads.h>

#include "hooks/entries.h"
#include "hooks/real.h"
#include "hooks/waiting.h"

namespace profagent::hooks {

using safe::WaitKind;

namespace {

// A sleep that a signal of ours interrupts goes on with the rest of its time, which the kernel tells only to
// those who want to know (agent/safe/interrupted_wait.h).
int nanosleep_with_rest(const timespec* time, timespec* rest) {
  timespec own{};
  return real::nanosleep(time, rest != nullptr ? rest : &own);
}

int clock_nanosleep_with_rest(clockid_t clock, int flags, const timespec* time, timespec* rest) {
  timespec own{};
  return real::clock_nanosleep(clock, flags, time, rest != nullptr ? rest : &own);
}

int thrd_sleep_with_rest(const timespec* time, timespec* rest) {
  timespec own{};
  return real::thrd_sleep(time, rest != nullptr ? rest : &own);
}

// What glibc's does, but for the rest.
int usleep_with_rest(unsigned int microseconds) {
  constexpr unsigned int kPerSecond = 1'000'000;
  const timespec time{.tv_sec = microseconds / kPerSecond,
                      .tv_nsec = static_cast<long>(microseconds % kPerSecond) * 1000};
  timespec own{};
  return real::nanosleep(&time, &own);
}

template <auto& real, auto& call, typename... Arguments>
[[gnu::always_inline]] inline int sleep_in(Arguments... arguments) {
  return wait_in<WaitKind::kSleep, real, Entered::kNever, call>(nullptr, arguments...);
}

}  // namespace

namespace watched {

ssize_t read(int descriptor, void* buffer, std::size_t size) {
  return wait_in<WaitKind::kIo, real::read>(nullptr, descriptor, buffer, size);
}

ssize_t recv(int descriptor, void* buffer, std::size_t size, int flags) {
  if ((flags & MSG_DONTWAIT) != 0) return real::recv(descriptor, buffer, size, flags);
  return wait_in<WaitKind::kIo, real::recv>(nullptr, descriptor, buffer, size, flags);
}

ssize_t recvfrom(int descriptor, void* buffer, std::size_t size, int flags, sockaddr* address,
                 socklen_t* length) {
  if ((flags & MSG_DONTWAIT) != 0) return real::recvfrom(descriptor, buffer, size, flags, address, length);
  return wait_in<WaitKind::kIo, real::recvfrom>(nullptr, descriptor, buffer, size, flags, address, length);
}

ssize_t recvmsg(int descriptor, msghdr* message, int flags) {
  if ((flags & MSG_DONTWAIT) != 0) return real::recvmsg(descriptor, message, flags);
  return wait_in<WaitKind::kIo, real::recvmsg>(nullptr, descriptor, message, flags);
}

int accept(int descriptor, sockaddr* address, socklen_t* length) {
  return wait_in<WaitKind::kIo, real::accept>(nullptr, descriptor, address, length);
}

int accept4(int descriptor, sockaddr* address, socklen_t* length, int flags) {
  return wait_in<WaitKind::kIo, real::accept4>(nullptr, descriptor, address, length, flags);
}

int connect(int descriptor, const sockaddr* address, socklen_t length) {
  return wait_in<WaitKind::kIo, real::connect>(nullptr, descriptor, address, length);
}

int poll(pollfd* entries, nfds_t count, int timeout) {
  if (timeout == 0) return real::poll(entries, count, timeout);
  return wait_in<WaitKind::kIo, real::poll>(nullptr, entries, count, timeout);
}

int ppoll(pollfd* entries, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  return wait_in<WaitKind::kIo, real::ppoll>(nullptr, entries, count, timeout, mask);
}

int select(int count, fd_set* readable, fd_set* writable, fd_set* special, timeval* timeout) {
  return wait_in<WaitKind::kIo, real::select>(nullptr, count, readable, writable, special, timeout);
}

int pselect(int count, fd_set* readable, fd_set* writable, fd_set* special, const timespec* timeout,
            const sigset_t* mask) {
  return wait_in<WaitKind::kIo, real::pselect>(nullptr, count, readable, writable, special, timeout, mask);
}

int epoll_wait(int descriptor, epoll_event* events, int count, int timeout) {
  if (timeout == 0) return real::epoll_wait(descriptor, events, count, timeout);
  return wait_in<WaitKind::kIo, real::epoll_wait>(nullptr, descriptor, events, count, timeout);
}

int epoll_pwait(int descriptor, epoll_event* events, int count, int timeout, const sigset_t* mask) {
  if (timeout == 0) return real::epoll_pwait(descriptor, events, count, timeout, mask);
  return wait_in<WaitKind::kIo, real::epoll_pwait>(nullptr, descriptor, events, count, timeout, mask);
}

int nanosleep(const timespec* time, timespec* rest) {
  return sleep_in<real::nanosleep, nanosleep_with_rest>(time, rest);
}

int clock_nanosleep(clockid_t clock, int flags, const timespec* time, timespec* rest) {
  return sleep_in<real::clock_nanosleep, clock_nanosleep_with_rest>(clock, flags, time, rest);
}

int usleep(unsigned int microseconds) {
  // Under that name stands a function that is not libc's.
  if (entry::nanosleep != nanosleep) return wait_in<WaitKind::kSleep, real::usleep>(nullptr, microseconds);
  return sleep_in<real::usleep, usleep_with_rest>(microseconds);
}

unsigned int sleep(unsigned int seconds) {
  return wait_in<WaitKind::kSleep, real::sleep>(nullptr, seconds);
}

int thrd_sleep(const timespec* time, timespec* rest) {
  return sleep_in<real::thrd_sleep, thrd_sleep_with_rest>(time, rest);
}

int pause() {
  return wait_in<WaitKind::kSleep, real::pause>(nullptr);
}

int sigsuspend(const sigset_t* mask) {
  return wait_in<WaitKind::kSleep, real::sigsuspend>(nullptr, mask);
}

pid_t wait(int* status) {
  return wait_in<WaitKind::kSleep, real::wait>(nullptr, status);
}

pid_t waitpid(pid_t pid, int* status, int options) {
  if ((options & WNOHANG) != 0) return real::waitpid(pid, status, options);
  return wait_in<WaitKind::kSleep, real::waitpid>(nullptr, pid, status, options);
}

int waitid(idtype_t type, id_t id, siginfo_t* info, int options) {
  if ((options & WNOHANG) != 0) return real::waitid(type, id, info, options);
  return wait_in<WaitKind::kSleep, real::waitid>(nullptr, type, id, info, options);
}

pid_t wait4(pid_t pid, int* status, int options, rusage* usage) {
  if ((options & WNOHANG) != 0) return real::wait4(pid, status, options, usage);
  return wait_in<WaitKind::kSleep, real::wait4>(nullptr, pid, status, options, usage);
}

ssize_t readv(int descriptor, const iovec* parts, int count) {
  return wait_in<WaitKind::kIo, real::readv>(nullptr, descriptor, parts, count);
}

int recvmmsg(int descriptor, mmsghdr* messages, unsigned int count, int flags, timespec* timeout) {
  if ((flags & MSG_DONTWAIT) != 0) return real::recvmmsg(descriptor, messages, count, flags, timeout);
  return wait_in<WaitKind::kIo, real::recvmmsg>(nullptr, descriptor, messages, count, flags, timeout);
}

int epoll_pwait2(int descriptor, epoll_event* events, int count, const timespec* timeout,
                 const sigset_t* mask) {
  return wait_in<WaitKind::kIo, real::epoll_pwait2>(nullptr, descriptor, events, count, timeout, mask);
}

int flock(int descriptor, int operation) {
  if ((operation & LOCK_NB) != 0) return real::flock(descriptor, operation);
  return wait_in<WaitKind::kIo, real::flock>(nullptr, descriptor, operation);
}

ssize_t msgrcv(int queue, void* message, std::size_t size, long type, int flags) {
  if ((flags & IPC_NOWAIT) != 0) return real::msgrcv(queue, message, size, type, flags);
  return wait_in<WaitKind::kIo, real::msgrcv>(nullptr, queue, message, size, type, flags);
}

int semop(int set, sembuf* operations, std::size_t count) {
  return wait_in<WaitKind::kSemaphore, real::semop>(nullptr, set, operations, count);
}

int semtimedop(int set, sembuf* operations, std::size_t count, const timespec* timeout) {
  return wait_in<WaitKind::kSemaphore, real::semtimedop>(nullptr, set, operations, count, timeout);
}

pid_t wait3(int* status, int options, rusage* usage) {
  if ((options & WNOHANG) != 0) return real::wait3(status, options, usage);
  return wait_in<WaitKind::kSleep, real::wait3>(nullptr, status, options, usage);
}

// What _FORTIFY_SOURCE makes of them.
ssize_t __read_chk(int descriptor, void* buffer, std::size_t size, std::size_t room) {
  return wait_in<WaitKind::kIo, real::__read_chk>(nullptr, descriptor, buffer, size, room);
}

ssize_t __recv_chk(int descriptor, void* buffer, std::size_t size, std::size_t room, int flags) {
  if ((flags & MSG_DONTWAIT) != 0) return real::__recv_chk(descriptor, buffer, size, room, flags);
  return wait_in<WaitKind::kIo, real::__recv_chk>(nullptr, descriptor, buffer, size, room, flags);
}

ssize_t __recvfrom_chk(int descriptor, void* buffer, std::size_t size, std::size_t room, int flags,
                       sockaddr* address, socklen_t* length) {
  if ((flags & MSG_DONTWAIT) != 0)
    return real::__recvfrom_chk(descriptor, buffer, size, room, flags, address, length);
  return wait_in<WaitKind::kIo, real::__recvfrom_chk>(nullptr, descriptor, buffer, size, room, flags, address,
                                                      length);
}

int __poll_chk(pollfd* entries, nfds_t count, int timeout, std::size_t room) {
  if (timeout == 0) return real::__poll_chk(entries, count, timeout, room);
  return wait_in<WaitKind::kIo, real::__poll_chk>(nullptr, entries, count, timeout, room);
}

int __ppoll_chk(pollfd* entries, nfds_t count, const timespec* timeout, const sigset_t* mask,
                std::size_t room) {
  return wait_in<WaitKind::kIo, real::__ppoll_chk>(nullptr, entries, count, timeout, mask, room);
}

}  // namespace watched

}  // namespace profagent::hooks
