// Calls that the kernel never repeats after a signal, whatever SA_RESTART says: with the handler below they
// go on, and the caller sees neither EINTR nor an early return.
#include "agent/safe/interrupted_wait.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <functional>
#include <string>
#include <thread>

#include <poll.h>
#include <semaphore.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include "agent/safe/sys.h"

namespace profagent::safe {
namespace {

constinit std::atomic<int> signals = 0;

void on_signal(int, siginfo_t*, void* context) {
  auto& interrupted = *static_cast<ucontext_t*>(context);
  go_on_waiting(find_interrupted_wait(interrupted.uc_mcontext.gregs), interrupted);
  signals.fetch_add(1);
}

constexpr int kSignals = 5;
constexpr long kMillisecond = 1'000'000;
const timespec kTimeout{0, 60 * kMillisecond};

void install() {
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigfillset(&action.sa_mask);
  REQUIRE(sigaction(SIGUSR1, &action, nullptr) == 0);
}

// Runs `wait`, and signals it a few times while it waits; after that, `end` is to end it, if anything is.
// The call's errno, 0 when it succeeded.
int wait_under_signals(
    const std::function<bool()>& wait, const std::function<void()>& end = [] {}) {
  install();
  const int before = signals.load();
  const pid_t tid = sys::gettid();
  std::thread disturber([&] {
    sigset_t set;
    sigfillset(&set);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    for (int i = 0; i < kSignals; ++i) {
      usleep(8'000);
      sys::call(SYS_tgkill, sys::getpid(), tid, SIGUSR1);
      // Two that are pending at the same time are one.
      for (int tries = 0; tries < 5'000 && signals.load() - before <= i; ++tries) usleep(1'000);
    }
    usleep(8'000);
    end();
  });
  const int error = wait() ? 0 : errno;
  disturber.join();
  CHECK(signals.load() - before == kSignals);
  return error;
}

timespec in_a_moment(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  time.tv_nsec += kTimeout.tv_nsec;
  if (time.tv_nsec >= 1'000'000'000) {
    time.tv_nsec -= 1'000'000'000;
    ++time.tv_sec;
  }
  return time;
}

struct Pipe {
  Pipe() { REQUIRE(pipe(ends) == 0); }
  ~Pipe() {
    close(ends[0]);
    close(ends[1]);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  void fill() const { REQUIRE(write(ends[1], "x", 1) == 1); }
  int ends[2] = {};
};

TEST_CASE("waits for a descriptor go on", "[D1]") {
  const Pipe pipe;
  pollfd entry{pipe.ends[0], POLLIN, 0};
  CHECK(wait_under_signals([&] { return poll(&entry, 1, -1) == 1; }, [&] { pipe.fill(); }) == 0);
  const Pipe second;
  entry.fd = second.ends[0];
  CHECK(wait_under_signals([&] { return ppoll(&entry, 1, &kTimeout, nullptr) == 0; }) == 0);
  CHECK(wait_under_signals([] {
          timeval time{0, 60'000};
          return select(0, nullptr, nullptr, nullptr, &time) == 0;
        }) == 0);
  CHECK(wait_under_signals([] { return pselect(0, nullptr, nullptr, nullptr, &kTimeout, nullptr) == 0; }) ==
        0);
}

TEST_CASE("sleeps last as long as asked for", "[D1][D3]") {
  const auto slept_long_enough = [](const timespec& begin) {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / kMillisecond >= 59;
  };
  timespec begin{};
  timespec rest{};
  clock_gettime(CLOCK_MONOTONIC, &begin);
  CHECK(wait_under_signals([&] { return nanosleep(&kTimeout, &rest) == 0; }) == 0);
  CHECK(slept_long_enough(begin));
  clock_gettime(CLOCK_MONOTONIC, &begin);
  timespec both = kTimeout;
  CHECK(wait_under_signals([&] { return nanosleep(&both, &both) == 0; }) == 0);
  CHECK(slept_long_enough(begin));
  CHECK(wait_under_signals([] {
          const timespec until = in_a_moment(CLOCK_MONOTONIC);
          return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == 0;
        }) == 0);
}

TEST_CASE("waits for a semaphore, a futex, a message, a signal go on", "[D1]") {
  sem_t semaphore;
  REQUIRE(sem_init(&semaphore, 0, 0) == 0);
  CHECK(wait_under_signals([&] {
          const timespec until = in_a_moment(CLOCK_REALTIME);
          return sem_timedwait(&semaphore, &until) == 0;
        }) == ETIMEDOUT);
  CHECK(wait_under_signals([&] { return sem_wait(&semaphore) == 0; }, [&] { sem_post(&semaphore); }) == 0);

  const int queue = msgget(IPC_PRIVATE, 0600);
  REQUIRE(queue >= 0);
  struct {
    long type = 1;
    char text[8] = {};
  } message;
  CHECK(wait_under_signals([&] { return msgrcv(queue, &message, sizeof(message.text), 0, 0) >= 0; },
                           [&] { msgsnd(queue, &message, 1, 0); }) == 0);
  msgctl(queue, IPC_RMID, nullptr);
}

TEST_CASE("waits for any signal go on until one comes that is not ours", "[D1]") {
  static constinit std::atomic<int> others = 0;
  struct sigaction other {};
  other.sa_handler = [](int) { others.fetch_add(1); };
  REQUIRE(sigaction(SIGUSR2, &other, nullptr) == 0);
  const pid_t tid = sys::gettid();
  const auto end = [&] { sys::call(SYS_tgkill, sys::getpid(), tid, SIGUSR2); };
  // A handler of the program's ends both, which is the only way.
  const auto ended_by_other = [](int result, int wanted) {
    return result == -1 && errno == EINTR && others.load() == wanted;
  };
  CHECK(wait_under_signals([&] { return ended_by_other(pause(), 1); }, end) == 0);
  // As programs do: it can come only while they wait.
  sigset_t blocked;
  sigset_t before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR2);
  REQUIRE(pthread_sigmask(SIG_BLOCK, &blocked, &before) == 0);
  CHECK(wait_under_signals([&] { return ended_by_other(sigsuspend(&before), 2); }, end) == 0);
  CHECK(pthread_sigmask(SIG_SETMASK, &before, nullptr) == 0);
}

// Signals the calling thread, again and again: it may not be in its wait yet.
class Bell {
 public:
  Bell()
      : thread_([this, tid = sys::gettid()] {
          while (!end_) {
            usleep(20'000);
            sys::call(SYS_tgkill, sys::getpid(), tid, SIGUSR1);
          }
        }) {}
  ~Bell() {
    end_ = true;
    thread_.join();
  }
  Bell(const Bell&) = delete;
  Bell& operator=(const Bell&) = delete;

 private:
  std::atomic<bool> end_ = false;
  std::thread thread_;
};

TEST_CASE("a finite timeout of which nobody knows the rest ends the wait", "[D3]") {
  install();
  const Pipe pipe;
  pollfd entry{pipe.ends[0], POLLIN, 0};
  const timespec minute{60, 0};
  const auto ends_early = [](const std::function<bool()>& wait) {
    const Bell bell;
    return !wait() && errno == EINTR;
  };
  CHECK(ends_early([&] { return poll(&entry, 1, 60'000) == 0; }));
  CHECK(ends_early([&] { return nanosleep(&minute, nullptr) == 0; }));
  sigset_t waited;
  sigemptyset(&waited);
  sigaddset(&waited, SIGUSR2);
  CHECK(ends_early([&] { return sigtimedwait(&waited, nullptr, &minute) >= 0; }));
}

// The kernel hands over both signals before the call returns, ours first: the other one is what ended the
// wait.
TEST_CASE("a wait that another signal ends at the same moment is not taken up again", "[D1]") {
  install();
  struct sigaction other {};
  other.sa_handler = [](int) {};
  REQUIRE(sigaction(SIGUSR2, &other, nullptr) == 0);
  sigset_t both;
  sigemptyset(&both);
  sigaddset(&both, SIGUSR1);
  sigaddset(&both, SIGUSR2);
  sigset_t before;
  REQUIRE(pthread_sigmask(SIG_BLOCK, &both, &before) == 0);
  raise(SIGUSR1);
  raise(SIGUSR2);
  const timespec second{1, 0};
  const int result = ppoll(nullptr, 0, &second, &before);
  const int error = errno;
  CHECK(result == -1);
  CHECK(error == EINTR);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

// A call whose number is not ours, shortly behind one whose number is.
TEST_CASE("the number is that of the nearest instruction that can be one", "[D1]") {
  gregset_t registers{};
  static constexpr unsigned char kTwo[32] = {
      0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,       0x90, 0x90, 0x90, 0x90, 0xb8, SYS_nanosleep,
      0,    0,    0,    0x0f, 0x05, 0xb8, SYS_getpid, 0,    0,    0,    0x0f, 0x05};
  registers[REG_RAX] = -EINTR;
  registers[REG_RIP] = reinterpret_cast<greg_t>(kTwo + 25);
  CHECK(find_interrupted_wait(registers).call == nullptr);
}

TEST_CASE("registers that say nothing of the kind are left alone") {
  gregset_t registers{};
  const auto check_nothing = [&] { CHECK(find_interrupted_wait(registers).call == nullptr); };
  check_nothing();
  registers[REG_RAX] = -EINTR;
  check_nothing();
  registers[REG_RIP] = 1;
  check_nothing();
  registers[REG_RIP] = ~greg_t{0};
  check_nothing();
  // A call that returned EINTR, by its code, but one that does not wait.
  static constexpr unsigned char kGetpid[32] = {
      0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,       0x90, 0x90, 0x90, 0x90, 0x90,
      0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xb8, SYS_getpid, 0,    0,    0,    0x0f, 0x05};
  registers[REG_RIP] = reinterpret_cast<greg_t>(kGetpid + 30);
  check_nothing();
}

}  // namespace
}  // namespace profagent::safe
