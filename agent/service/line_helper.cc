#include "agent/service/line_helper.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include "agent/safe/clock.h"
#include "agent/safe/sys.h"
#include "agent/service/own_thread.h"

namespace profagent::service {

namespace {

namespace sys = safe::sys;
using sys::address_of;

constexpr MonotonicNanos kMillisecond = 1'000'000;
// How long our thread waits without looking whether it is asked to stop.
constexpr MonotonicNanos kSlice = 20 * kMillisecond;
// For one that does not end when it is left alone.
constexpr MonotonicNanos kEndPatience = 1'000 * kMillisecond;

void sleep_for(MonotonicNanos duration) noexcept {
  const timespec pause = {.tv_sec = 0, .tv_nsec = duration};
  sys::call(SYS_nanosleep, address_of(&pause), 0);
}

std::string name_of(int error) {
  const char* const name = strerrorname_np(error);
  return name == nullptr ? std::to_string(error) : name;
}

}  // namespace

std::string LineHelper::start(int library, std::uint64_t memory, MonotonicNanos deadline) {
  end();
  if (!start_.is_over()) return "the last one has not ended yet";
  room_.resize(line_wire::kMaxPacket);
  int ends[2] = {-1, -1};
  if (const long failed =
          sys::call(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, address_of(ends));
      failed < 0)
    return "no socket (" + name_of(static_cast<int>(-failed)) + ")";
  socket_ = ends[0];
  int error = start_.begin(library, ends[1], memory);
  sys::call(SYS_close, ends[1]);

  std::span<const std::byte> hello;
  const Got got = error != 0 ? Got::kGone : receive_packet(hello, deadline);
  // Seldom more than once: the process between had to run for the helper to begin, or not to.
  while (got != Got::kNothingYet && !start_.stays() && !start_.is_over() && !own_thread.is_to_stop() &&
         safe::monotonic_now() < deadline)
    sleep_for(kMillisecond / 10);
  if (got == Got::kAnswer && std::ranges::equal(hello, std::as_bytes(std::span(line_wire::kHello))))
    return {};
  end();
  if (error == 0) error = start_.error();
  if (error != 0) return "the kernel refuses it (" + name_of(error) + ")";
  return got == Got::kNothingYet ? "it did not begin in time" : "it has ended at once";
}

bool LineHelper::send(const line_wire::Request& request, int file) {
  std::vector<std::byte> packet = line_wire::encode(request);
  iovec piece = {.iov_base = packet.data(), .iov_len = packet.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &file, sizeof(int));
  if (is_running() && sys::call(SYS_sendmsg, socket_, address_of(&message), MSG_NOSIGNAL | MSG_DONTWAIT) ==
                          static_cast<long>(packet.size()))
    return true;
  end();
  return false;
}

LineHelper::Got LineHelper::receive(line_wire::Answer& answer, MonotonicNanos deadline) {
  std::span<const std::byte> packet;
  const Got got = receive_packet(packet, deadline);
  if (got == Got::kAnswer) {
    if (auto decoded = line_wire::decode_answer(packet)) {
      answer = std::move(*decoded);
      return got;
    }
    end();
    return Got::kGone;
  }
  if (got == Got::kGone) end();
  return got;
}

LineHelper::Got LineHelper::receive_packet(std::span<const std::byte>& packet, MonotonicNanos deadline) {
  if (!is_running()) return Got::kGone;
  for (;;) {
    const long got = sys::call(SYS_recvfrom, socket_, address_of(room_.data()),
                               static_cast<long>(room_.size()), MSG_DONTWAIT, 0);
    if (got > 0) {
      packet = std::span<const std::byte>(room_).first(static_cast<std::size_t>(got));
      return Got::kAnswer;
    }
    if (got != -EAGAIN && got != -EINTR) return Got::kGone;
    const MonotonicNanos left = std::min(deadline - safe::monotonic_now(), kSlice);
    if (left <= 0 || own_thread.is_to_stop()) return Got::kNothingYet;
    pollfd socket = {.fd = socket_, .events = POLLIN, .revents = 0};
    const timespec slice = {.tv_sec = 0, .tv_nsec = left};
    sys::call(SYS_ppoll, address_of(&socket), 1, address_of(&slice), 0);
  }
}

void LineHelper::end() noexcept {
  if (!is_running()) return;
  sys::call(SYS_close, socket_);
  socket_ = -1;
  if (!start_.stays()) return;
  const MonotonicNanos begin = safe::monotonic_now();
  while (!start_.is_over() && safe::monotonic_now() - begin < kEndPatience && !own_thread.is_to_stop())
    sleep_for(kMillisecond);
  // Once it is over, the number may be another's.
  if (!start_.is_over()) start_.kill();
  while (!start_.is_over() && safe::monotonic_now() - begin < 2 * kEndPatience) sleep_for(kMillisecond);
}

}  // namespace profagent::service
