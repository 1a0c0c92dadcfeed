// The roof: starts the agent when the library is loaded, carries it across fork, cleans up at exit.
//
// Everything here runs on the program's threads, in ordinary context or in a fork child, so it allocates
// nothing and throws nothing; what may is built on our own thread (site.cc).
#include <atomic>
#include <cstring>
#include <ctime>

#include <dlfcn.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/utsname.h>

#include "agent/coverage.h"
#include "agent/helper/program_entry.h"
#include "agent/log.h"
#include "agent/program.h"
#include "agent/safe/arena.h"
#include "agent/safe/clock.h"
#include "agent/safe/contention_recorder.h"
#include "agent/safe/counters.h"
#include "agent/safe/cpu_recorder.h"
#include "agent/safe/creation_recorder.h"
#include "agent/safe/events.h"
#include "agent/safe/heap_recorder.h"
#include "agent/safe/lock_waiters.h"
#include "agent/safe/settings.h"
#include "agent/safe/sys.h"
#include "agent/safe/thread_asks.h"
#include "agent/safe/thread_state.h"
#include "agent/safe/thread_status.h"
#include "agent/safe/threads.h"
#include "agent/safe/unwind.h"
#include "agent/service/access_token.h"
#include "agent/service/listen.h"
#include "agent/service/own_memory.h"
#include "agent/service/server.h"
#include "agent/site.h"
#include "agent/wake.h"
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

struct Agent {
  Program program;
  HeapCoverage heap;
  service::Listeners listeners;
  service::Service service;
  std::string_view cmdline;
  const char* runtime_dir = "";
  service::Token token;
  std::int64_t started_at = 0;
  std::int64_t filters_at_load = -1;
  pid_t pid = 0;  // of the process that on_load or on_fork_child ran in
  std::uint64_t forks = 0;
  std::atomic<bool> reopen{false};   // a fork child that has not opened its own listeners yet
  std::atomic<bool> paused{false};   // our thread was ended for a change of rights
  std::atomic<bool> rung{false};     // meanwhile a client has come
  std::atomic<bool> is_deaf{false};  // no signal tells of clients: a filter was about to come
};

constinit Agent agent;

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

// At load, and when a client has changed a setting. The rates of the contention profiles are not here:
// requests have a say in them.
void follow_settings() noexcept {
  safe::arena.set_limit(static_cast<std::size_t>(safe::settings.max_memory.load(std::memory_order_relaxed)));
  const auto rate =
      static_cast<std::uint64_t>(safe::settings.mem_profile_rate.load(std::memory_order_relaxed));
  if (!agent.heap.available || rate == safe::heap_recorder.rate()) return;
  hooks::watch_frees();
  safe::heap_recorder.set_rate(rate);
}

void follow_contention_settings() noexcept {
  const std::int64_t fraction = safe::settings.mutex_profile_fraction.load(std::memory_order_relaxed);
  safe::ContentionLabels labels = safe::contention_labels();
  const bool needs_waiters = fraction != 0 || labels.holders;
  const bool has_waiters = !needs_waiters || safe::lock_waiters.prepare();
  labels.holders = labels.holders && has_waiters;
  safe::contention_recorder.set_labels(labels);
  safe::contention_recorder.set_block_rate(safe::settings.block_profile_rate.load(std::memory_order_relaxed));
  safe::contention_recorder.set_mutex_fraction(has_waiters ? fraction : 0);
}

void on_settings_changed() noexcept {
  follow_settings();
  log(LogLevel::kInfo, {"a client has changed settings"});
}

service::Site make_service_site() {
  safe::thread_state.is_agent = true;
  return make_site({.info = {.program = agent.program.name,
                             .started_at = agent.started_at,
                             .heap_coverage = agent.heap.sentence,
                             .heap_available = agent.heap.available,
                             .asking_signal = asking_signal},
                    .service_facts = [] { return agent.service.facts(); },
                    .follow_settings = on_settings_changed,
                    .cmdline = std::string(agent.cmdline),
                    .token = std::string(agent.token.view()),
                    .filters_at_load = agent.filters_at_load});
}

// A vfork child shares our memory but is another process: our thread is its parent's.
bool is_own_process() {
  return safe::sys::getpid() == agent.pid;
}

// By which clients are heard without a thread. Any thread may get a signal, and one under a filter must not.
int arming_signal() {
  return safe::events.any_is_filtered.load() ? 0 : wake_signal();
}

// Nobody has asked for a while: a program that has no other threads gets rid of ours.
constexpr unsigned kIdleSeconds = 60;

void start_for_client() noexcept;

void on_retired() noexcept {
  agent.listeners.notify_by_signal(arming_signal());
  // Who came before the signal was armed.
  if (agent.listeners.client_is_waiting()) start_for_client();
}

void start_service(unsigned idle_seconds) noexcept {
  if (!agent.listeners.any() || agent.service.is_running()) return;
  // A connection is our thread's business from now on.
  agent.listeners.notify_by_signal(0);
  if (agent.service.start(
          {.listeners = &agent.listeners,
           .create_thread = reinterpret_cast<decltype(&pthread_create)>(hooks::real::pthread_create),
           .make_site = make_service_site,
           .idle_seconds = idle_seconds,
           .on_retired = on_retired,
           .keep_stderr = logs_to_stderr(),
           .filters_at_load = agent.filters_at_load})) {
    safe::count(safe::counters.service_starts);
    return;
  }
  safe::count(safe::counters.service_start_failures);
  log(LogLevel::kError, {"cannot start the thread that serves: ", agent.service.last_problem()});
  agent.listeners.notify_by_signal(arming_signal());
}

void start_for_client() noexcept {
  if (agent.paused) {
    agent.rung = true;
    return;
  }
  // Nobody would hear the next one.
  start_service(arming_signal() != 0 ? kIdleSeconds : 0);
}

// The program wants the signal for itself. Without another one only a thread can hear clients.
void on_wake_signal_moved() noexcept {
  if (agent.service.is_running() || !is_own_process()) return;
  agent.listeners.notify_by_signal(arming_signal());
  if (wake_signal() != 0) return;
  safe::events.is_deferred.store(true, std::memory_order_relaxed);
  safe::HeapRecorder::look_soon();
}

std::int64_t unix_seconds() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec;
}

service::Remote look_for_token() {
  agent.token.clear();
  if (safe::settings.allow_remote.load(std::memory_order_relaxed) == 0) return service::Remote::kForbidden;
  service::ProblemText problem;
  if (service::read_token(safe::settings.token_file.load(std::memory_order_relaxed), &agent.token, &problem))
    return service::Remote::kAllowed;
  safe::report_setting("PROFAGENT_TOKEN_FILE", problem.c_str());
  log(LogLevel::kError, {"PROFAGENT_TOKEN_FILE ", problem.view(), "; remote clients are not served"});
  return service::Remote::kLacksToken;
}

void open_listeners() noexcept {
  utsname host{};
  uname(&host);
  const service::AddressFacts facts{
      .pid = safe::sys::getpid(),
      .uid = static_cast<uid_t>(safe::sys::call(SYS_geteuid)),
      .executable = agent.program.name,
      .host = host.nodename,
      .unix_time = static_cast<std::uint64_t>(unix_seconds()),
      .counter = agent.forks,
      .runtime_dir = agent.runtime_dir,
      .remote = look_for_token(),
  };
  service::AddressList addresses;
  service::ProblemText problems;
  service::parse_addresses(safe::settings.addr.load(std::memory_order_relaxed), facts, &addresses, &problems);
  if (!problems.empty()) {
    safe::report_setting("PROFAGENT_ADDR", problems.c_str());
    log(LogLevel::kError, {"PROFAGENT_ADDR: ", problems.view()});
  }
  agent.listeners.open(addresses, facts.pid);
  if (!agent.listeners.problems().empty()) log(LogLevel::kError, {agent.listeners.problems()});
  for (const service::Listener& listener : agent.listeners.all()) {
    if (listener.is_wake_up) continue;
    service::FixedText<160> address;
    service::describe(listener.address, &address);
    log(LogLevel::kInfo, {"serving on ", address.view()});
  }
  if (!agent.listeners.any()) return;
  if (agent.forks == 0) watch_for_clients(start_for_client, on_wake_signal_moved);
  agent.listeners.notify_by_signal(arming_signal());
  // Who came before the signal was armed.
  if (agent.listeners.client_is_waiting()) wake_now();
}

void do_deferred() noexcept {
  if (agent.reopen.exchange(false)) {
    open_listeners();
    // Who forks and goes on without a thread is woken by the signal, if there is one.
    if (wake_signal() != 0) return;
  }
  start_for_client();
}

void on_thread_created() noexcept {
  // A child of fork() that has not allocated yet.
  if (agent.reopen.exchange(false)) open_listeners();
  start_service(0);
}

void on_rights_will_change() noexcept {
  if (!agent.service.is_running() || !is_own_process() || agent.service.is_this_thread()) return;
  agent.paused = agent.service.stop_and_join();
  if (!agent.paused) return log(LogLevel::kError, {"our thread did not end before a change of rights"});
  // Before the change: afterwards a system call of ours may be forbidden.
  agent.listeners.notify_by_signal(arming_signal());
  if (agent.listeners.client_is_waiting()) agent.rung = true;
}

// Nor does a client's signal come to threads under a filter.
void on_filter_will_come() noexcept {
  on_rights_will_change();
  if (!is_own_process() || agent.service.is_this_thread()) return;
  agent.listeners.notify_by_signal(0);
  stop_trying();
  agent.is_deaf = true;
}

void on_rights_changed() noexcept {
  const bool may_ask = safe::may_ask_kernel();
  if (may_ask && !safe::events.any_is_filtered.load() && agent.is_deaf.exchange(false)) {
    // The filter was refused.
    agent.listeners.notify_by_signal(wake_signal());
    if (agent.listeners.client_is_waiting()) agent.rung = true;
  }
  if (agent.paused.exchange(false)) {
    // Not at once: the next such call often follows.
    safe::events.is_deferred.store(true, std::memory_order_relaxed);
    safe::HeapRecorder::look_soon();
  }
  // No system call under a filter, which may just have forbidden it.
  if (may_ask && agent.rung.exchange(false)) wake_now();
}

// In the child, whose other threads are gone and whose locks may be held for ever; it may exec at once, so
// nothing is opened before it allocates.
void on_fork_child() noexcept {
  service::own_memory::reset_after_fork();
  agent.service.forget_after_fork();
  forget_clients_after_fork();
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
  // Under a filter they stay open.
  if (safe::may_ask_kernel()) agent.listeners.close_all();
  agent.pid = safe::sys::getpid();
  safe::events.process = agent.pid;
  agent.paused = false;
  agent.rung = false;
  agent.is_deaf = false;
  // The others under a filter are gone.
  safe::events.any_is_filtered = !safe::may_ask_kernel();
  ++agent.forks;
  if (!serves) return;
  agent.reopen = true;
  safe::events.is_deferred.store(true, std::memory_order_relaxed);
  safe::HeapRecorder::look_soon();
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
  agent.program = identify_program();
  if (agent.program.role == Role::kInert) return;
  if (agent.program.role == Role::kDormant) {
    log(LogLevel::kInfo, {agent.program.name, " is not profiled: ", agent.program.reason});
    return;
  }

  safe::set_clock_function(find_clock());
  safe::skip_frames_of(reinterpret_cast<std::uintptr_t>(__ehdr_start),
                       reinterpret_cast<std::uintptr_t>(etext));
  agent.cmdline = copy_cmdline(argc, argv);
  agent.runtime_dir = copy(safe::find_variable(environment, "XDG_RUNTIME_DIR"));
  agent.heap = find_heap_coverage();
  log(LogLevel::kInfo, {agent.heap.sentence});
  follow_settings();
  follow_contention_settings();

  safe::creation_recorder.start();

  agent.filters_at_load = filters_at_load();
  agent.pid = safe::sys::getpid();
  safe::events.process = agent.pid;
  agent.started_at = unix_seconds();
  open_listeners();
  if (!agent.listeners.any()) return;
  safe::threads.let_waiters_claim(true);
  safe::events.deferred.store(do_deferred, std::memory_order_release);
  safe::events.rights_will_change.store(on_rights_will_change, std::memory_order_release);
  safe::events.rights_changed.store(on_rights_changed, std::memory_order_release);
  safe::events.filter_will_come.store(on_filter_will_come, std::memory_order_release);
  safe::events.thread_created.store(on_thread_created, std::memory_order_release);
  pthread_atfork(nullptr, nullptr, on_fork_child);
}

[[gnu::destructor]] void on_exit() {
  agent.listeners.unlink_files();
}

}  // namespace

}  // namespace profagent
