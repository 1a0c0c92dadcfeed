// What one sample of a CPU profiler costs, above a signal whose handler does nothing:
//
//   cpu_sample_bench profagent|gperftools DEPTH repeated|leaf|all [ROUNDS]
//   cpu_sample_bench profagent|gperftools DEPTH timer [SECONDS]
//   cpu_sample_bench parts DEPTH
//
// A thread sends itself the profiler's signal, many times at a known depth, with the profiler's handler and
// with an empty one in turn. Prints the least nanoseconds per signal with each, over all rounds.
//
//   repeated  the same stack each time
//   leaf      the innermost eight frames differ from one signal to the next
//   all       nothing but the frames around main() stays
//
// With `timer` the signals are those of the profiler's own timer, at 1000 Hz, while the thread works: caches
// and branch predictors hold what the work needs, not what the handler needs. Prints the median and the ninth
// decile of the nanoseconds in the handler.
//
// `parts` prints what the parts of our handler take: name, nanoseconds as a handler of its own, and in a
// loop.
#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iterator>

#include <dlfcn.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "agent/safe/cpu_buckets.h"
#include "agent/safe/cpu_recorder.h"
#include "agent/safe/cpu_signal.h"
#include "agent/safe/cpu_timers.h"
#include "agent/safe/record_stack.h"
#include "agent/safe/signal_stack.h"
#include "agent/safe/stack_table.h"
#include "agent/safe/sys.h"
#include "agent/safe/threads.h"
#include "agent/safe/unwind.h"
#include "test/bench/deep_stack.h"

using namespace profagent::safe;

namespace {

constexpr int kSignalsPerRound = 256;
constexpr std::uint32_t kPaths = 64;
// main() and what calls it, measure() and the leaf are frames as well.
constexpr unsigned kFramesAround = 8;
constexpr unsigned kLeafFrames = 8;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "cpu_sample_bench: %s\n", what);
  std::exit(1);
}

// The thread's own CPU clock: it does not count when others have the processor.
double now(clockid_t clock = CLOCK_THREAD_CPUTIME_ID) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

// The kernel's action: libc's sigaction() would put its own restorer into ours.
struct Action {
  std::uintptr_t handler;
  unsigned long flags;
  std::uintptr_t restorer;
  std::uint64_t mask;
};

Action action_of(int number) {
  Action action{};
  sys::call(SYS_rt_sigaction, number, 0, reinterpret_cast<long>(&action), 8);
  return action;
}
void set_action(int number, const Action& action) {
  sys::call(SYS_rt_sigaction, number, reinterpret_cast<long>(&action), 0, 8);
}

void do_nothing(int, siginfo_t*, void*) {}

Action with_handler(Action action, void (*handler)(int, siginfo_t*, void*)) {
  action.handler = reinterpret_cast<std::uintptr_t>(handler);
  return action;
}

siginfo_t information;  // that comes with the signal
long process;
long thread;
int number;

// The same call for both handlers, so its own cost cancels out.
[[gnu::always_inline]] inline void send() {
  sys::call(SYS_rt_tgsigqueueinfo, process, thread, number, reinterpret_cast<long>(&information));
}

void send_once(void*) {
  send();
}

// Nanoseconds for each signal at the present depth, the same stack every time.
void send_many(void* nanos) {
  const double begin = now();
  for (int i = 0; i < kSignalsPerRound; ++i) send();
  *static_cast<double*>(nanos) = (now() - begin) / kSignalsPerRound;
}

double round_of_signals(unsigned levels, unsigned shared_above) {
  if (shared_above == 0) {
    double nanos = 0;
    deep_stack::descend(levels, {0, 0, send_many, &nanos});
    return nanos;
  }
  const double begin = now();
  for (std::uint32_t i = 0; i < kSignalsPerRound; ++i) {
    deep_stack::descend(levels, {i % kPaths, shared_above, send_once, nullptr});
  }
  return (now() - begin) / kSignalsPerRound;
}

void measure(unsigned depth, unsigned shared_above, int rounds) {
  const Action full = action_of(number);
  const Action empty = with_handler(full, do_nothing);
  double best_full = 1e300;
  double best_empty = 1e300;
  for (int i = 0; i < rounds; ++i) {
    set_action(number, empty);
    best_empty = std::min(best_empty, round_of_signals(depth - kFramesAround, shared_above));
    set_action(number, full);
    best_full = std::min(best_full, round_of_signals(depth - kFramesAround, shared_above));
  }
  std::printf("%.1f %.1f\n", best_empty, best_full);
}

constexpr std::size_t kMostTimes = 100'000;
double times[kMostTimes];
std::size_t times_kept;
Action timed;

void measure_handler(int number_given, siginfo_t* received, void* context) {
  const double begin = now(CLOCK_MONOTONIC);
  reinterpret_cast<void (*)(int, siginfo_t*, void*)>(timed.handler)(number_given, received, context);
  if (times_kept < kMostTimes) times[times_kept++] = now(CLOCK_MONOTONIC) - begin;
}

void burn(void*) {
  std::uint64_t state = 1;
  for (int i = 0; i < 20000; ++i) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    asm volatile("" : "+r"(state));
  }
}

// As the timers come, and fresh leaves.
void measure_by_timer(unsigned depth, double seconds) {
  timed = action_of(number);
  set_action(number, with_handler(timed, measure_handler));
  const double end = now() + seconds * 1e9;
  for (std::uint32_t i = 0; now() < end; ++i) {
    deep_stack::descend(depth - kFramesAround, {i % kPaths, kLeafFrames, burn, nullptr});
  }
  set_action(number, with_handler(timed, do_nothing));
  if (times_kept < 10) fail("no signals");
  std::sort(times, times + times_kept);
  std::printf("%.0f %.0f\n", times[times_kept / 2], times[times_kept * 9 / 10]);
}

// Of a real signal of the timer, to be sent again and again: the handler takes no other.
void keep_information(int, siginfo_t* received, void*) {
  information = *received;
}

void start_profagent() {
  if (!cpu_timers.prepare() || !prepare_signal_stacks() || !cpu_signal.take()) fail("cannot start");
  number = cpu_signal.number();
  const Action ours = action_of(number);
  set_action(number, with_handler(ours, keep_information));
  // Every signal weighs something; the timer itself comes once, at once, and then not again.
  cpu_recorder.set_period(1);
  constexpr std::int64_t kLong = 1'000'000'000'000;
  cpu_timers.set_period(kLong);
  std::uint64_t cpu = 0;
  if (!cpu_recorder.prepare() || !read_cpu_clock(CLOCK_THREAD_CPUTIME_ID, cpu) ||
      cpu_timers.add(sys::gettid(), static_cast<std::int64_t>(cpu) - kLong, threads.marks()) !=
          AddResult::kAdded) {
    fail("no timer");
  }
  volatile const int* code = &information.si_code;
  while (*code != SI_TIMER) {
  }
  set_action(number, ours);
}

void start_gperftools() {
  void* library = dlopen("libprofiler.so.0", RTLD_NOW);
  if (library == nullptr) fail("no libprofiler.so.0");
  auto* start = reinterpret_cast<int (*)(const char*)>(dlsym(library, "ProfilerStart"));
  if (start == nullptr || start("/dev/null") == 0) fail("cannot start gperftools");
  number = SIGPROF;
  information.si_code = SI_QUEUE;
}

// What our handler is made of, each to be run alone: in a handler, where the caches and the branch predictor
// are as the kernel left them, and in a loop.
struct Part {
  const char* name;
  void (*run)(ucontext_t& context);
};

CpuTimer* timer;
Pc pcs[kMaxStackDepth];
Stack stack;
CpuKey key;
volatile std::uint64_t sink;

void nothing(ucontext_t&) {}
void on_signal_stack(void*) noexcept {}

constexpr Part kParts[] = {
    {"nothing", nothing},
    {"(an empty system call)", [](ucontext_t&) { sys::call(SYS_getppid); }},
    {"whose signal it is", [](ucontext_t&) { sink = cpu_timers.owner_of(information).stale; }},
    {"change of stack", [](ucontext_t&) { sink = run_on_signal_stack(on_signal_stack, &key); }},
    {"the thread's CPU clock (system call)",
     [](ucontext_t&) {
       std::uint64_t nanos = 0;
       sink = read_cpu_clock(CLOCK_THREAD_CPUTIME_ID, nanos);
     }},
    {"the thread's name (system call)",
     [](ucontext_t&) { sys::call(SYS_prctl, PR_GET_NAME, reinterpret_cast<long>(key.thread.words)); }},
    {"walk", [](ucontext_t& context) { stack = capture_stack(frame_of(context), pcs); }},
    {"walk, interning", [](ucontext_t& context) { key.stack = record_stack(frame_of(context), pcs); }},
    {"row of the table", [](ucontext_t&) { sink = cpu_buckets.find_or_add(key); }},
    {"all of the recorder",
     [](ucontext_t& context) { cpu_recorder.on_signal(*timer, timer->generation, context); }},
};

const Part* part;
void run_part(int, siginfo_t*, void* context) {
  part->run(*static_cast<ucontext_t*>(context));
}

ucontext_t interrupted;
void keep_context(int, siginfo_t*, void* context) {
  std::memcpy(&interrupted, context, sizeof interrupted);
}

double loop_of(const Part& one) {
  const double begin = now();
  for (int i = 0; i < kSignalsPerRound; ++i) one.run(interrupted);
  return (now() - begin) / kSignalsPerRound;
}

// In the frame that `interrupted` is about, so that its stack stays as it was.
void measure_parts(void*) {
  constexpr int kRounds = 60;
  const Action full = action_of(number);
  timer = cpu_timers.find(sys::gettid());
  set_action(number, with_handler(full, keep_context));
  send();
  struct Least {
    double signal = 1e300;
    double loop = 1e300;
  };
  Least least[std::size(kParts)];
  double all = 1e300;
  for (int i = 0; i < kRounds; ++i) {
    double nanos = 0;
    set_action(number, full);
    send_many(&nanos);
    all = std::min(all, nanos);
    set_action(number, with_handler(full, run_part));
    for (std::size_t k = 0; k < std::size(kParts); ++k) {
      part = &kParts[k];
      send_many(&nanos);
      least[k].signal = std::min(least[k].signal, nanos);
      least[k].loop = std::min(least[k].loop, loop_of(*part));
    }
  }
  for (std::size_t k = 1; k < std::size(kParts); ++k) {
    std::printf("%s\t%.0f\t%.0f\n", kParts[k].name, least[k].signal - least[0].signal,
                least[k].loop - least[0].loop);
  }
  std::printf("all of the handler\t%.0f\n", all - least[0].signal);
}

unsigned shared_above(const char* kind) {
  if (std::strcmp(kind, "repeated") == 0) return 0;
  if (std::strcmp(kind, "leaf") == 0) return kLeafFrames;
  if (std::strcmp(kind, "all") == 0) return 1U << 20U;
  fail("repeated, leaf or all?");
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) fail("see the head of the source");
  const auto depth = static_cast<unsigned>(std::atoi(arguments[2]));
  const bool parts = std::strcmp(arguments[1], "parts") == 0;
  const bool by_timer = count > 3 && std::strcmp(arguments[3], "timer") == 0;
  if (depth <= kFramesAround || (!parts && count < 4)) fail("see the head of the source");
  process = sys::getpid();
  thread = sys::gettid();
  if (std::strcmp(arguments[1], "gperftools") == 0) {
    start_gperftools();
  } else {
    start_profagent();
  }
  if (by_timer) {
    if (std::strcmp(arguments[1], "profagent") == 0) cpu_recorder.set_period(1'000'000);
    measure_by_timer(depth, count > 4 ? std::atof(arguments[4]) : 2);
  } else if (parts) {
    deep_stack::descend(depth - kFramesAround, {0, 0, measure_parts, nullptr});
  } else {
    measure(depth, shared_above(arguments[3]), count > 4 ? std::atoi(arguments[4]) : 60);
  }
  // Without destructors: gperftools would write its profile.
  _exit(std::fflush(stdout) == 0 ? 0 : 1);
}
