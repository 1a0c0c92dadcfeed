// The signal of the CPU timers, and what its handler does to the thread that it interrupts.
#include "agent/safe/cpu_signal.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include "agent/safe/cpu_buckets.h"
#include "agent/safe/cpu_recorder.h"
#include "agent/safe/cpu_timers.h"
#include "agent/safe/signal_stack.h"
#include "agent/safe/sys.h"
#include "agent/safe/threads.h"

namespace profagent::safe {
namespace {

constexpr std::uint64_t kPeriod = 1'000'000;

// A thread that has a timer, for as long as this lives.
class Sampled {
 public:
  Sampled() {
    REQUIRE(cpu_timers.prepare());
    REQUIRE(prepare_signal_stacks());
    REQUIRE(cpu_signal.take());
    cpu_recorder.set_period(kPeriod);
    REQUIRE(cpu_recorder.prepare());
    std::uint64_t now = 0;
    REQUIRE(read_cpu_clock(CLOCK_THREAD_CPUTIME_ID, now));
    begin_ = static_cast<std::int64_t>(now);
    REQUIRE(cpu_timers.add(sys::gettid(), begin_, threads.marks()) == AddResult::kAdded);
  }
  ~Sampled() {
    cpu_recorder.set_period(0);
    cpu_timers.remove_all();
  }
  Sampled(const Sampled&) = delete;
  Sampled& operator=(const Sampled&) = delete;

  [[nodiscard]] static std::uint64_t charged() {
    const CpuTimer* timer = cpu_timers.find(sys::gettid());
    return timer == nullptr ? 0 : static_cast<std::uint64_t>(timer->charged_until.load() - begin_);
  }

 private:
  static inline std::int64_t begin_ = 0;
};

std::uint64_t cpu_now() {
  std::uint64_t nanos = 0;
  REQUIRE(read_cpu_clock(CLOCK_THREAD_CPUTIME_ID, nanos));
  return nanos;
}

// Until so much was charged.
[[gnu::noinline]] void burn(std::uint64_t nanos) {
  while (Sampled::charged() < nanos) {
  }
}

std::uint64_t nanos_in_table() {
  std::uint64_t sum = 0;
  cpu_buckets.for_each([&](const CpuBucket& row) { sum += row.nanos; });
  return sum;
}

struct sigaction action_of(int number) {
  struct sigaction action {};
  REQUIRE(sigaction(number, nullptr, &action) == 0);
  return action;
}

// The exit status of a child that runs `body`.
template <typename Body>
int in_child(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    body();
    _exit(0);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  return status;
}

TEST_CASE("a thread's CPU time is charged in whole periods, the rest carried", "[D16]") {
  const Sampled sampled;
  const std::uint64_t table = nanos_in_table();
  const std::uint64_t begin = cpu_now();
  burn(100 * kPeriod);
  const std::uint64_t used = cpu_now() - begin;
  const std::uint64_t charged = Sampled::charged();
  CHECK(charged % kPeriod == 0);
  CHECK(nanos_in_table() - table == charged);
  // What is missing was used since the last sample. The kernel may look at the timer only at its next tick.
  constexpr std::uint64_t kLongestTick = 10'000'000;
  CHECK(charged <= used + 2 * kPeriod);
  CHECK(charged + kPeriod + 2 * kLongestTick >= used);
}

TEST_CASE("errno is as it was", "[D11]") {
  const Sampled sampled;
  errno = 77;
  const std::uint64_t end = Sampled::charged() + 50 * kPeriod;
  bool kept = true;
  while (Sampled::charged() < end) kept = kept && errno == 77;
  CHECK(kept);
}

// The kernel's frame is not ours to shrink, and what the handler needs beyond that has to fit below it on an
// alternate stack of which least_alternate_stack() says that it does.
TEST_CASE("the handler uses next to nothing of the stack that it interrupts", "[D12][D13]") {
  constexpr unsigned char kPattern = 0xa5;
  constexpr std::size_t kSize = std::size_t{64} << 10;
  auto* memory = static_cast<unsigned char*>(
      mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(memory != MAP_FAILED);
  const stack_t stack = {.ss_sp = memory, .ss_flags = 0, .ss_size = kSize};
  stack_t before{};
  REQUIRE(sigaltstack(&stack, &before) == 0);
  const auto used = [&] {
    std::size_t untouched = 0;
    while (untouched < kSize && memory[untouched] == kPattern) ++untouched;
    return kSize - untouched;
  };

  // What the kernel itself needs: a handler that does nothing.
  struct sigaction empty {};
  empty.sa_handler = [](int) {};
  empty.sa_flags = SA_ONSTACK;
  REQUIRE(sigaction(SIGUSR1, &empty, nullptr) == 0);
  std::memset(memory, kPattern, kSize);
  ::raise(SIGUSR1);
  const std::size_t kernel = used();
  REQUIRE(kernel > 0);

  std::size_t ours = 0;
  {
    const Sampled sampled;
    std::memset(memory, kPattern, kSize);
    burn(20 * kPeriod);
    ours = used();
  }
  REQUIRE(sigaltstack(&before, nullptr) == 0);
  munmap(memory, kSize);
  CAPTURE(kernel, ours);
  REQUIRE(ours >= kernel);
  // Without a sanitizer's own needs it is 256.
  constexpr std::size_t kPromised = 384;  // least_alternate_stack() counts on it
  CHECK(ours - kernel <= kPromised);
  CHECK(ours + getauxval(AT_MINSIGSTKSZ) <= least_alternate_stack());
}

TEST_CASE("a taken signal has our handler, and the next one is ready when the program wants it", "[D5]") {
  const int status = in_child([] {
    if (!cpu_signal.take() || cpu_signal.number() != SIGPROF) _exit(1);
    if (action_of(SIGPROF).sa_handler == SIG_DFL) _exit(2);
    if (!cpu_timers.prepare()) _exit(3);
    cpu_recorder.set_period(kPeriod);
    if (cpu_timers.add(sys::gettid(), 0, threads.marks()) != AddResult::kAdded) _exit(4);
    cpu_signal.leave();
    signal(SIGPROF, SIG_IGN);
    if (cpu_signal.number() != SIGVTALRM || action_of(SIGVTALRM).sa_handler == SIG_DFL) _exit(5);
    // The timer went along.
    const CpuTimer* timer = cpu_timers.find(sys::gettid());
    if (timer == nullptr || timer->signal.load() != SIGVTALRM) _exit(6);
    signal(SIGVTALRM, SIG_IGN);  // past the hooks: seen when the signal is looked at again
    if (!cpu_signal.take() || cpu_signal.number() != SIGSTKFLT) _exit(7);
    signal(SIGSTKFLT, SIG_IGN);
    signal(SIGPWR, SIG_IGN);
    if (cpu_signal.take() || cpu_signal.number() != 0) _exit(8);
    if (timer->id != 0) _exit(9);  // the slot keeps the account
  });
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("somebody else's signal ends a program that left it at its default", "[D4][D5]") {
  const int status = in_child([] {
    if (!cpu_signal.take()) _exit(1);
    kill(getpid(), cpu_signal.number());
    pause();
  });
  REQUIRE(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGPROF);
}

TEST_CASE("a signal that comes after the end changes nothing", "[D10]") {
  std::uint64_t table = 0;
  {
    const Sampled sampled;
    // Blocked, so that the timer's signal is still to come when everything is over.
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, cpu_signal.number());
    REQUIRE(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
    const std::uint64_t begin = cpu_now();
    while (cpu_now() - begin < 50 * kPeriod) {
    }
    table = nanos_in_table();
  }
  sigset_t none;
  sigemptyset(&none);
  REQUIRE(pthread_sigmask(SIG_SETMASK, &none, nullptr) == 0);
  CHECK(nanos_in_table() == table);
}

}  // namespace
}  // namespace profagent::safe
