// The roof: starts the agent when the library is loaded, carries it across fork, cleans up at exit.
//
// Everything here runs on the program's threads, in ordinary context or in a fork child, so it allocates
// nothing and throws nothing; what may is built on our own thread (site.cc).
#include <cstring>
#include <ctime>

#include <dlfcn.h>
#include <pthread.h>
#include <sys/prctl.h>

#include "agent/coverage.h"
#include "agent/follow_settings.h"
#include "agent/helper/program_entry.h"
#include "agent/log.h"
#include "agent/program.h"
#include "agent/safe/arena.h"
#include "agent/safe/clock.h"
#include "agent/safe/contention_recorder.h"
#include "agent/safe/cpu_recorder.h"
#include "agent/safe/creation_recorder.h"
#include "agent/safe/events.h"
#include "agent/safe/lock_waiters.h"
#include "agent/safe/settings.h"
#include "agent/safe/sys.h"
#include "agent/safe/thread_asks.h"
#include "agent/safe/thread_status.h"
#include "agent/safe/threads.h"
#include "agent/safe/unwind.h"
#include "agent/service/own_memory.h"
#include "agent/serving.h"
#include "hooks/memory.h"
#include "hooks/real.h"
#include "hooks/threads.h"

// The linker's: the first and the last byte of our code.
extern "C" {
[[gnu::visibility("hidden")]] extern const char __ehdr_start[];
[[gnu::visibility("hidden")]] extern const char etext[];
}

namespace profagent {

namespace {

constinit Served served;

// argv joined by NUL, copied: programs overwrite theirs (setproctitle).
std::string_view copy_cmdline(int argc, char** argv) {
  std::size_t bytes = 0;
  for (int i = 0; i < argc; ++i) bytes += std::strlen(argv[i]) + 1;
  if (bytes == 0) return {};
  auto* text = static_cast<char*>(bytes <= safe::Arena::kChunkBytes ? safe::arena.allocate(bytes)
                                                                    : safe::arena.allocate_pages(bytes));
  if (text == nullptr) return {};
  char* end = text;
  for (int i = 0; i < argc; ++i) {
    const std::size_t length = std::strlen(argv[i]) + 1;
    std::memcpy(end, argv[i], length);
    end += length;
  }
  return {text, bytes - 1};
}

const char* copy(const char* text) {
  if (text == nullptr) return "";
  const std::size_t bytes = std::strlen(text) + 1;
  void* kept = safe::arena.allocate(bytes);
  return kept == nullptr ? "" : static_cast<const char*>(std::memcpy(kept, text, bytes));
}

// Those that are there at load came from outside, a container's for instance, and know what programs do.
std::int64_t filters_at_load() {
  if (safe::sys::call(SYS_prctl, PR_GET_SECCOMP) == 0) return 0;
  safe::ThreadStatus status;
  return safe::read_thread_status(safe::sys::gettid(), status) ? status.filters : -1;
}

// In the child, whose other threads are gone and whose locks may be held for ever; it may exec at once, so
// nothing is opened before it allocates.
void on_fork_child() noexcept {
  service::own_memory::reset_after_fork();
  safe::unlock_walk_caches_after_fork();
  safe::cpu_recorder.forget_after_fork();
  safe::lock_waiters.forget_after_fork();
  // What a request of the parent's has asked for ends with it.
  const bool serves = safe::settings.follow_fork.load(std::memory_order_relaxed) != 0;
  if (serves) {
    follow_contention_settings();
  } else {
    safe::contention_recorder.set_labels({});
    safe::contention_recorder.set_block_rate(0);
    safe::contention_recorder.set_mutex_fraction(0);
  }
  safe::creation_recorder.forget_after_fork();
  safe::thread_asks.forget_after_fork();
  hooks::forget_births_after_fork();
  safe::threads.on_fork_child();
  forget_serving_after_fork();
  safe::events.process = safe::sys::getpid();
  // The others under a filter are gone.
  safe::events.any_is_filtered = safe::may_ask_kernel() ? 0 : 1;
  if (serves) serve_anew_after_fork();
}

// Which the loader knows under this name; it is not there under valgrind.
safe::ClockFunction find_clock() noexcept {
  void* const vdso = dlopen("linux-vdso.so.1", RTLD_LAZY | RTLD_NOLOAD);
  void* const function = vdso == nullptr ? nullptr : dlsym(vdso, "__vdso_clock_gettime");
  // Or the program's next one would get ours. glibc's is the thread's own.
  static_cast<void>(dlerror());  // NOLINT(concurrency-mt-unsafe)
  return reinterpret_cast<safe::ClockFunction>(function);
}

[[gnu::constructor]] void on_load(int argc, char** argv, char** environment) {
  hooks::real::resolve();
  hooks::leave_frees_alone();
  if (helper::is_own_program()) return;
  safe::read_settings(environment);
  served.program = identify_program();
  if (served.program.role == Role::kInert) return;
  if (served.program.role == Role::kDormant) {
    log(LogLevel::kInfo, {served.program.name, " is not profiled: ", served.program.reason});
    return;
  }

  safe::set_clock_function(find_clock());
  safe::skip_frames_of(reinterpret_cast<std::uintptr_t>(__ehdr_start),
                       reinterpret_cast<std::uintptr_t>(etext));
  served.cmdline = copy_cmdline(argc, argv);
  served.runtime_dir = copy(safe::find_variable(environment, "XDG_RUNTIME_DIR"));
  served.heap = find_heap_coverage();
  log(LogLevel::kInfo, {served.heap.sentence});
  follow_settings(served.heap.available);
  follow_contention_settings();

  safe::creation_recorder.start();

  served.filters_at_load = filters_at_load();
  safe::events.process = safe::sys::getpid();
  served.started_at = safe::now_by(CLOCK_REALTIME) / safe::kNanosPerSecond;
  if (!begin_serving(served)) return;
  safe::threads.let_waiters_claim();
  pthread_atfork(nullptr, nullptr, on_fork_child);
}

[[gnu::destructor]] void on_exit() {
  end_serving();
}

}  // namespace

}  // namespace profagent
