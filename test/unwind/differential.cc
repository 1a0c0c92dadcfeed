// A preloaded second opinion: samples a real program (by SIGPROF, and at every Nth malloc), walks each
// sampled stack with capture_stack() and with libunwind, and compares. A test tool, never part of the agent.
//
//   DIFFERENTIAL_FILE=/tmp/result LD_PRELOAD=differential.so program
//
// The result file is a page of counters, shared by all processes of a run (see struct Counts); stacks that
// differ are appended to /tmp/result.txt as module+offset. A difference is classified by facts about the
// frame at which the walks part, never by its size:
//   stops     the last frame on which both agree has no call-frame information (JIT, assembly), libunwind's
//             stack ends there (it believes no frame pointer that is more than 16 KiB away, for one), and we
//             went on and arrived by rules at the thread's outermost frame, or filled the room
//   no_cfi    some frame on which both agree has no call-frame information, and any other difference follows
//   oracle    libunwind stops with an error in a frame for which the module has call-frame information, and
//   we go on other     everything else: a bug until explained
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <dlfcn.h>
#include <fcntl.h>
#include <libunwind.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "agent/safe/rule_cache.h"
#include "agent/safe/unwind.h"

using profagent::safe::Pc;
using profagent::safe::Stack;
using profagent::safe::StartFrame;

namespace {

constexpr std::size_t kDepth = 256;
constexpr unsigned kMallocPeriod = 499;
constexpr long kSignalPeriodNanoseconds = 1000000;
constexpr std::uint64_t kMaxReports = 200;

enum Class { kIdentical, kStops, kNoCfi, kOracle, kOther, kClasses };

struct Counts {
  std::atomic<std::uint64_t> samples[2];  // by signal, at malloc
  std::atomic<std::uint64_t> by_class[kClasses];
  std::atomic<std::uint64_t> frames;
  std::atomic<std::uint64_t> incomplete;
  std::atomic<std::uint64_t> reports;
};

struct Oracle {
  int (*init)(unw_cursor_t*, unw_context_t*, int);
  int (*step)(unw_cursor_t*);
  int (*get_reg)(unw_cursor_t*, unw_regnum_t, unw_word_t*);
  int (*is_signal_frame)(unw_cursor_t*);
};

Counts* counts;
Oracle oracle;
char report_path[512];
__thread bool busy;

std::size_t walk_by_oracle(unw_context_t* context, bool exact, Pc* pcs, std::size_t room, int& error) {
  unw_cursor_t cursor;
  std::size_t depth = 0;
  error = oracle.init(&cursor, context, exact ? UNW_INIT_SIGNAL_FRAME : 0);
  if (error < 0) return 0;
  bool interrupted = exact;
  while (depth < room) {
    unw_word_t ip = 0;
    oracle.get_reg(&cursor, UNW_REG_IP, &ip);
    if (ip == 0) break;
    // libunwind says "signal frame" of the frame that was interrupted; the one before it is the trampoline,
    // which was not called either.
    if (depth > 0 && oracle.is_signal_frame(&cursor) > 0) {
      interrupted = true;
      ++pcs[depth - 1];
    }
    pcs[depth++] = interrupted ? ip : ip - 1;
    interrupted = false;
    error = oracle.step(&cursor);
    if (error <= 0) break;
  }
  return depth;
}

int print_frame(char* to, std::size_t room, Pc pc) {
  dl_find_object found;
  if (_dl_find_object(reinterpret_cast<void*>(pc), &found) != 0) {
    return std::snprintf(to, room, " [%lx]", static_cast<unsigned long>(pc));
  }
  const char* name = found.dlfo_link_map->l_name;
  const char* slash = std::strrchr(name, '/');
  return std::snprintf(to, room, " %s+%lx",
                       slash != nullptr ? slash + 1
                       : *name != 0     ? name
                                        : "exe",
                       static_cast<unsigned long>(pc - found.dlfo_link_map->l_addr));
}

void report(const char* what, const Stack& stack, const Pc* ours, const Pc* theirs, std::size_t depth,
            int error) {
  if (counts->reports.fetch_add(1) >= kMaxReports) return;
  static char text[1 << 16];
  static std::atomic<bool> taken;
  if (taken.exchange(true)) return;
  std::size_t at = static_cast<std::size_t>(std::snprintf(
      text, sizeof text, "%s pid %d ours %u%s%s oracle %zu error %d\n", what, getpid(), stack.depth,
      stack.incomplete ? " incomplete" : "", stack.truncated ? " truncated" : "", depth, error));
  for (std::size_t i = 0; (i < stack.depth || i < depth) && at < sizeof text - 1024; ++i) {
    text[at++] = ' ';
    text[at++] = i < stack.depth && i < depth && ours[i] == theirs[i] ? '=' : '!';
    if (i < stack.depth) at += static_cast<std::size_t>(print_frame(text + at, 256, ours[i]));
    if (i >= stack.depth || i >= depth || ours[i] != theirs[i]) {
      at += static_cast<std::size_t>(std::snprintf(text + at, 16, "   |"));
      if (i < depth) at += static_cast<std::size_t>(print_frame(text + at, 256, theirs[i]));
    }
    text[at++] = '\n';
  }
  const int file = open(report_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (file >= 0) {
    if (write(file, text, at) < 0) std::abort();
    close(file);
  }
  taken = false;
}

void compare(const Stack& stack, const Pc* ours, const Pc* theirs, std::size_t depth, int error) {
  counts->frames += stack.depth;
  if (stack.incomplete) ++counts->incomplete;
  std::size_t same = 0;
  while (same < stack.depth && same < depth && ours[same] == theirs[same]) ++same;
  if (same == stack.depth && same == depth) {
    ++counts->by_class[kIdentical];
    return;
  }
  Class verdict = kOther;
  bool guessed = false;
  bool guessed_last = false;
  for (std::size_t i = 0; i < same; ++i) {
    const auto kind =
        profagent::safe::look_up_rule(ours[i], profagent::safe::CfiMemory::Trust::kDirect).kind();
    guessed_last = kind == profagent::safe::RuleKind::kNoCfi;
    guessed = guessed || guessed_last;
  }
  if (guessed) {
    verdict = guessed_last && same == depth && !stack.incomplete ? kStops : kNoCfi;
  } else if (same > 0 && same == depth && error < 0 && same < stack.depth) {
    verdict = kOracle;
  }
  ++counts->by_class[verdict];
  static const char* const kNames[] = {"identical", "stops", "no_cfi", "oracle", "other"};
  report(kNames[verdict], stack, ours, theirs, depth, error);
}

void on_signal(int, siginfo_t*, void* raw) {
  if (busy || counts == nullptr) return;
  const int saved_errno = errno;
  busy = true;
  auto* context = static_cast<ucontext_t*>(raw);
  Pc ours[kDepth];
  Pc theirs[kDepth];
  const Stack stack = profagent::safe::capture_stack(profagent::safe::frame_of(*context), ours);
  int error = 0;
  const std::size_t depth =
      walk_by_oracle(reinterpret_cast<unw_context_t*>(context), true, theirs, kDepth, error);
  ++counts->samples[0];
  compare(stack, ours, theirs, depth, error);
  busy = false;
  errno = saved_errno;
}

[[gnu::noinline]] void on_malloc(const StartFrame& caller) {
  busy = true;
  Pc ours[kDepth];
  Pc theirs[kDepth + 8];
  const Stack stack = profagent::safe::capture_stack(caller, ours);
  unw_context_t context;
  getcontext(&context);
  int error = 0;
  std::size_t depth = walk_by_oracle(&context, false, theirs, kDepth + 8, error);
  std::size_t own = 0;
  while (own < depth && theirs[own] != caller.pc - 1) ++own;
  depth -= own;
  if (depth > kDepth) depth = kDepth;
  ++counts->samples[1];
  compare(stack, ours, theirs + own, depth, error);
  busy = false;
}

// A POSIX timer: neither fork() nor exec() passes it on, so it cannot kill a program without our handler.
void arm() {
  timer_t timer;
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGPROF;
  if (timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer) != 0) return;
  itimerspec period{};
  period.it_value.tv_nsec = period.it_interval.tv_nsec = kSignalPeriodNanoseconds;
  timer_settime(timer, 0, &period, nullptr);
}

void after_fork() {
  profagent::safe::unlock_walk_caches_after_fork();
  busy = false;
  arm();
}

[[gnu::constructor]] void start() {
  const char* path = std::getenv("DIFFERENTIAL_FILE");
  if (path == nullptr) return;
  std::snprintf(report_path, sizeof report_path, "%s.txt", path);
  void* library = dlopen("libunwind.so.8", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return;
  oracle.init = reinterpret_cast<decltype(oracle.init)>(dlsym(library, "_ULx86_64_init_local2"));
  oracle.step = reinterpret_cast<decltype(oracle.step)>(dlsym(library, "_ULx86_64_step"));
  oracle.get_reg = reinterpret_cast<decltype(oracle.get_reg)>(dlsym(library, "_ULx86_64_get_reg"));
  oracle.is_signal_frame =
      reinterpret_cast<decltype(oracle.is_signal_frame)>(dlsym(library, "_ULx86_64_is_signal_frame"));
  const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file < 0 || ftruncate(file, sizeof(Counts)) != 0) return;
  void* page = mmap(nullptr, sizeof(Counts), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (page == MAP_FAILED) return;
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  sigaction(SIGPROF, &action, nullptr);
  pthread_atfork(nullptr, nullptr, after_fork);
  counts = static_cast<Counts*>(page);
  arm();
}

}  // namespace

extern "C" [[gnu::visibility("default")]] void* malloc(std::size_t size) {
  static std::atomic<void* (*)(std::size_t)> real;
  static std::atomic<unsigned> calls;
  auto* next = real.load(std::memory_order_relaxed);
  if (next == nullptr) {
    next = reinterpret_cast<void* (*)(std::size_t)>(dlsym(RTLD_NEXT, "malloc"));
    real.store(next, std::memory_order_relaxed);
  }
  if (counts != nullptr && calls.fetch_add(1, std::memory_order_relaxed) % kMallocPeriod == 0 && !busy) {
    on_malloc(profagent::safe::caller_frame());
  }
  return next(size);
}
