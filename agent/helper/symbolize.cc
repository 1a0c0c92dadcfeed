// The helper process: one request after the other. When it may have no more memory it ends, and the agent
// goes on without.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "agent/helper/dwarf_reader.h"
#include "agent/helper/program_entry.h"
#include "agent/safe/clock.h"
#include "agent/safe/sys.h"
#include "agent/safe/thread_state.h"
#include "agent/service/line_wire.h"

namespace profagent::helper {

namespace {

namespace wire = service::line_wire;

constexpr int kSocket = STDIN_FILENO;
constexpr int kWrongUse = 2;
// The agent ends a helper sooner; this is for agents that cannot any more.
constexpr int kIdleMillis = 30'000;
constexpr int kNiceness = 10;  // as our thread in a program that is not nice itself
// How often it is looked whether the agent is still there.
constexpr suseconds_t kWatchMicros = 200'000;
// What is known is answered after so long, though the packet is not full.
constexpr std::int64_t kPatience = 500'000'000;

void watch_agent(int /*signal*/) {
  pollfd socket = {.fd = kSocket, .events = POLLRDHUP, .revents = 0};
  const int error = errno;
  if (poll(&socket, 1, 0) == 1 && (socket.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0) _exit(0);
  errno = error;
}

// What was inherited from the program goes back to what a process begins with.
void settle() {
  setsid();
  prctl(PR_SET_NAME, "profagent-lines");
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  for (int signal = 1; signal < NSIG; ++signal) std::signal(signal, SIG_DFL);
  std::signal(SIGPIPE, SIG_IGN);
  struct sigaction watch = {};
  watch.sa_handler = watch_agent;
  watch.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &watch, nullptr);
  constexpr std::uint64_t kNone = 0;
  safe::sys::call(SYS_rt_sigprocmask, SIG_SETMASK, reinterpret_cast<long>(&kNone), 0, sizeof(kNone));

  const rlimit no_core = {.rlim_cur = 0, .rlim_max = 0};
  setrlimit(RLIMIT_CORE, &no_core);
  // Of the program's own choice; a file is mapped whole. What may be had of other memory the agent has
  // decided.
  rlimit mapped = {};
  getrlimit(RLIMIT_AS, &mapped);
  mapped.rlim_cur = mapped.rlim_max;
  setrlimit(RLIMIT_AS, &mapped);
  const sched_param no_priority = {};
  sched_setscheduler(0, SCHED_BATCH, &no_priority);
  setpriority(PRIO_PROCESS, 0, std::max(kNiceness, getpriority(PRIO_PROCESS, 0)));
  // If memory runs out, this process goes first.
  if (const int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC); score >= 0) {
    static_cast<void>(!write(score, "1000", 4));
    close(score);
  }
  // So that no file becomes what libc writes its last words to.
  int null = open("/dev/null", O_RDWR);
  while (null >= 0 && null <= STDERR_FILENO) null = dup(null);
  if (null >= 0) close(null);
}

bool send_packet(const std::vector<std::byte>& packet) {
  return send(kSocket, packet.data(), packet.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(packet.size());
}

// While a file is being read.
class Watch {
 public:
  Watch() { look_every(kWatchMicros); }
  ~Watch() { look_every(0); }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

 private:
  static void look_every(suseconds_t micros) {
    const timeval time = {.tv_sec = 0, .tv_usec = micros};
    const itimerval interval = {.it_interval = time, .it_value = time};
    setitimer(ITIMER_REAL, &interval, nullptr);
  }
};

struct Received {
  std::span<const std::byte> packet;
  int file = -1;
};

// Nothing at the end of the connection.
std::optional<Received> receive(std::vector<std::byte>& room) {
  iovec piece = {.iov_base = room.data(), .iov_len = room.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message = {};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t got = recvmsg(kSocket, &message, MSG_CMSG_CLOEXEC);
  if (got <= 0) return std::nullopt;
  Received received{.packet = std::span<const std::byte>(room).first(static_cast<std::size_t>(got))};
  const cmsghdr* const header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
    std::memcpy(&received.file, CMSG_DATA(header), sizeof(int));
  return received;
}

// Those files that were asked for, each read once.
class Readers {
 public:
  // Takes the descriptor over. Null when it is no file.
  DwarfReader* reader_of(int file, std::string_view path) {
    struct stat status {};
    if (fstat(file, &status) != 0) return nullptr;
    const Key key{status.st_dev, status.st_ino, status.st_mtim.tv_sec, status.st_mtim.tv_nsec,
                  std::string(path)};
    auto& reader = readers_[key];
    if (reader == nullptr) {
      reader = std::make_unique<DwarfReader>(file, std::string(path));
    } else {
      close(file);
    }
    return reader.get();
  }

 private:
  using Key = std::tuple<dev_t, ino_t, time_t, long, std::string>;
  std::map<Key, std::unique_ptr<DwarfReader>> readers_;
};

bool answer(const wire::Request& request, DwarfReader& reader) {
  const Watch watch;
  wire::AnswerWriter writer(request.id, 0);
  std::int64_t begin = safe::monotonic_now();
  std::uint32_t done = 0;
  for (const std::uint64_t address : request.addresses) {
    const wire::Chain chain = reader.find(address);
    if ((writer.count() != 0 && safe::monotonic_now() - begin > kPatience) || !writer.add(chain)) {
      if (!send_packet(writer.finish())) return false;
      writer = wire::AnswerWriter(request.id, done);
      writer.add(chain);
      begin = safe::monotonic_now();
    }
    ++done;
  }
  return send_packet(writer.finish());
}

// Until the agent goes away or has nothing to ask.
int serve() {
  if (!send_packet({reinterpret_cast<const std::byte*>(wire::kHello.data()),
                    reinterpret_cast<const std::byte*>(wire::kHello.data() + wire::kHello.size())}))
    return 0;
  Readers readers;
  std::vector<std::byte> room(wire::kMaxPacket);
  for (;;) {
    pollfd socket = {.fd = kSocket, .events = POLLIN, .revents = 0};
    const int ready = poll(&socket, 1, kIdleMillis);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return 0;
    const auto received = receive(room);
    if (!received) return 0;
    const auto request = wire::decode_request(received->packet);
    if (!request || received->file < 0) return 1;
    DwarfReader* const reader = readers.reader_of(received->file, request->path);
    if (reader == nullptr || !answer(*request, *reader)) return 1;
  }
}

}  // namespace

int symbolize() {
  int type = 0;
  socklen_t size = sizeof(type);
  if (getsockopt(kSocket, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET) return kWrongUse;
  // The hooks lie in front of our own calls.
  safe::thread_state.is_agent = true;
  settle();
  try {
    return serve();
  } catch (const std::bad_alloc&) {
    return 1;
  }
}

}  // namespace profagent::helper
