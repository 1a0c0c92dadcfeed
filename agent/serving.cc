#include "agent/serving.h"

#include <atomic>
#include <ctime>
#include <string>

#include <pthread.h>

#include "agent/follow_settings.h"
#include "agent/gate.h"
#include "agent/log.h"
#include "agent/safe/clock.h"
#include "agent/safe/counters.h"
#include "agent/safe/events.h"
#include "agent/safe/heap_recorder.h"
#include "agent/safe/sys.h"
#include "agent/safe/thread_state.h"
#include "agent/service/access_token.h"
#include "agent/service/listen.h"
#include "agent/service/server.h"
#include "agent/site.h"
#include "agent/sockets.h"
#include "agent/wake.h"
#include "hooks/real.h"

namespace profagent {

namespace {

constexpr safe::Nanos kAgainAfter = safe::kNanosPerSecond;
constexpr safe::Nanos kLongAgo = -kAgainAfter;

struct Serving {
  const Served* served = nullptr;
  service::Listeners listeners;
  service::Service service;
  service::Token token;
  std::uint64_t forks = 0;
  std::atomic<bool> reopen{false};  // a fork child that has not opened its own listeners yet
  Gate starting;                    // for who starts our thread, or whatever asks the kernel for it
  std::atomic<bool> wanted{
      false};                     // our thread, which was ended for a change of rights or had to wait for it
  std::atomic<bool> rung{false};  // meanwhile a client has come
  std::atomic<bool> has_failed{false};  // to start our thread, the last time
  std::atomic<safe::Nanos> failed_at{kLongAgo};
  std::atomic<bool> is_deaf{false};  // no signal tells of clients: a filter was about to come
};

constinit Serving serving;

const Served& served() {
  return *serving.served;
}

void on_settings_changed() noexcept {
  follow_settings(served().heap.available);
  log(LogLevel::kInfo, {"a client has changed settings"});
}

service::Site make_service_site() {
  safe::thread_state.is_agent = true;
  return make_site({.info = {.program = served().program.name,
                             .started_at = served().started_at,
                             .heap_coverage = served().heap.sentence,
                             .heap_available = served().heap.available,
                             .asking_signal = asking_signal},
                    .service_facts = [] { return serving.service.facts(); },
                    .follow_settings = on_settings_changed,
                    .cmdline = std::string(served().cmdline),
                    .token = std::string(serving.token.view()),
                    .filters_at_load = served().filters_at_load});
}

// By which clients are heard without a thread; 0: only a thread hears them.
int arming_signal() noexcept {
  return safe::may_signal_process() ? wake_signal() : 0;
}

// Also beside a thread that is about to become one to which no signal may come: it says so before it disarms,
// and we look again.
void arm() noexcept {
  if (arming_signal() != 0) use_signal();
  serving.listeners.notify_by_signal(arming_signal());
  if (safe::may_signal_process()) return;
  serving.listeners.notify_by_signal(0);
  if (safe::events.small_signal_stacks.load() != 0) rest_signal();
}

// With the next allocation.
void start_soon() noexcept {
  safe::events.is_deferred.store(true, std::memory_order_relaxed);
  safe::HeapRecorder::look_soon();
}

void hear_who_waits() noexcept {
  if (arming_signal() != 0) return wake_now();
  start_soon();
}

// Nobody has asked for a while: a program that has no other threads gets rid of ours.
constexpr unsigned kIdleSeconds = 60;

bool may_retire() noexcept {
  return arming_signal() != 0;
}

// With some allocation that is sampled, after a failure where no client can make us try again.
void try_again_later() noexcept {
  serving.failed_at = safe::monotonic_now();
  safe::events.is_deferred.store(true, std::memory_order_relaxed);
}

void start_for_client() noexcept;

void on_retired(bool was_idle) noexcept {
  arm();
  // Who came before the signal was armed; without one nobody would hear the next.
  if (!serving.listeners.client_is_waiting() && may_retire()) return;
  if (was_idle) return start_for_client();
  // It could not go on, and could not at once either.
  if (service::Listeners::are_ours(serving.listeners.all())) try_again_later();
}

void start_inside(unsigned idle_seconds) noexcept {
  if (serving.service.is_running()) return;
  // A connection is our thread's business from now on.
  serving.listeners.notify_by_signal(0);
  if (serving.service.start(
          {.listeners = &serving.listeners,
           .create_thread = reinterpret_cast<decltype(&pthread_create)>(hooks::real::pthread_create),
           .make_site = make_service_site,
           .idle_seconds = idle_seconds,
           .may_retire = may_retire,
           .on_retired = on_retired,
           .keep_stderr = logs_to_stderr(),
           .filters_at_load = served().filters_at_load})) {
    safe::count(safe::counters.service_starts);
    serving.has_failed = false;
    return;
  }
  safe::count(safe::counters.service_start_failures);
  if (!serving.has_failed.exchange(true))
    log(LogLevel::kError, {"cannot start the thread that serves: ", serving.service.last_problem()});
  arm();
  if (!may_retire()) try_again_later();
}

// False: not while rights change. Who changes them sees to it afterwards, as `wanted` is set before the gate
// is tried, and looked at after it was opened (both sequentially consistent).
bool start_service(unsigned idle_seconds) noexcept {
  if (!serving.listeners.any() || serving.service.is_running()) return true;
  // A handler of the program's that changes rights would wait for what it interrupts.
  const safe::sys::SignalsBlocked until_done;
  serving.wanted = true;
  if (!serving.starting.enter()) return false;
  serving.wanted = false;
  start_inside(idle_seconds);
  serving.starting.leave();
  return true;
}

void start_for_client() noexcept {
  serving.rung = true;
  if (start_service(kIdleSeconds)) serving.rung = false;
}

// The program wants the signal for itself. Without another one only a thread can hear clients.
void on_wake_signal_moved() noexcept {
  if (serving.service.is_running() || !safe::is_own_process()) return;
  arm();
  if (wake_signal() == 0) start_soon();
}

// Of the calling thread, for which it is about to be set.
void on_signal_stack_is_small() noexcept {
  if (!safe::is_own_process()) return;
  stop_trying();
  if (serving.service.is_running()) return rest_signal();
  arm();
  start_soon();
}

void on_signal_stacks_are_large() noexcept {
  if (!safe::is_own_process() || serving.service.is_running()) return;
  arm();
  if (serving.listeners.client_is_waiting()) hear_who_waits();
}

void open_listeners() noexcept {
  open_sockets(served(), serving.forks, &serving.listeners, &serving.token);
  if (!serving.listeners.any()) return;
  if (serving.forks == 0) watch_for_clients(start_for_client, on_wake_signal_moved);
  arm();
  // Who came before the signal was armed; without one there must be somebody to hear the first.
  if (serving.listeners.client_is_waiting() || arming_signal() == 0) hear_who_waits();
}

void do_deferred() noexcept {
  if (safe::monotonic_now() < serving.failed_at + kAgainAfter)
    return safe::events.is_deferred.store(true, std::memory_order_relaxed);
  if (serving.reopen.exchange(false)) {
    open_listeners();
    // Who forks and goes on without a thread is woken by the signal, if there is one.
    if (arming_signal() != 0) return;
  }
  start_for_client();
}

void on_thread_created() noexcept {
  // A child of fork() that has not allocated yet.
  if (serving.reopen.exchange(false)) open_listeners();
  static_cast<void>(start_service(0));
}

// They are in there for as long as it takes to make a thread.
bool wait_until_nobody_starts() noexcept {
  constexpr int kNaps = 50'000;
  constexpr timespec kNap{.tv_sec = 0, .tv_nsec = 50'000};
  for (int i = 0; i < kNaps; ++i) {
    if (serving.starting.is_empty()) return true;
    safe::sys::call(SYS_nanosleep, safe::sys::address_of(&kNap), 0);
  }
  return false;
}

// False for those who change nothing of ours.
bool keep_our_thread_out() noexcept {
  if (!safe::is_own_process() || serving.service.is_this_thread()) return false;
  ++safe::thread_state.keeps_agent_out;
  serving.starting.shut();
  const bool is_empty = wait_until_nobody_starts();
  const bool was_running = serving.service.is_running();
  const bool is_gone = serving.service.stop_and_join();
  if (!is_gone || !is_empty) log(LogLevel::kError, {"our thread did not end before a change of rights"});
  if (!is_gone) serving.service.go_on();
  if (!was_running || !is_gone) return true;
  serving.wanted = true;
  // Before the change: afterwards a system call of ours may be forbidden.
  arm();
  if (serving.listeners.client_is_waiting()) serving.rung = true;
  return true;
}

void on_rights_will_change() noexcept {
  static_cast<void>(keep_our_thread_out());
}

// From under a filter. Our thread looks by itself whether it is to end, now that some thread is filtered.
void on_filter_will_come_for_all() noexcept {
  constexpr safe::Nanos kPatience = 5 * safe::kNanosPerSecond;
  ++safe::thread_state.keeps_agent_out;
  serving.starting.shut();
  safe::spin_until([] { return serving.starting.is_empty(); }, kPatience);
  if (!serving.service.is_running()) return;
  serving.service.stop_by_memory();
  serving.wanted = true;
}

// Nor does a client's signal come to threads under a filter.
void on_filter_will_come() noexcept {
  if (!keep_our_thread_out()) return;
  serving.listeners.notify_by_signal(0);
  stop_trying();
  serving.is_deaf = true;
}

void on_rights_changed() noexcept {
  if (safe::thread_state.keeps_agent_out == 0) return;
  --safe::thread_state.keeps_agent_out;
  const bool may_ask = safe::may_ask_kernel();
  if (may_ask && safe::events.any_is_filtered.load() == 0 && serving.is_deaf.exchange(false)) {
    // The filter was refused. Connections to our thread are none of the signal's business; while the gate is
    // shut nobody starts it.
    if (!serving.service.is_running()) arm();
    if (serving.listeners.client_is_waiting()) serving.rung = true;
  }
  serving.starting.open();
  if (serving.wanted.exchange(false)) {
    // Not at once: the next such call often follows.
    start_soon();
  }
  // No system call under a filter, which may just have forbidden it.
  if (may_ask && serving.rung.exchange(false)) hear_who_waits();
}

}  // namespace

bool begin_serving(const Served& what) noexcept {
  serving.served = &what;
  open_listeners();
  if (!serving.listeners.any()) return false;
  safe::events.deferred.store(do_deferred, std::memory_order_release);
  safe::events.rights_will_change.store(on_rights_will_change, std::memory_order_release);
  safe::events.rights_changed.store(on_rights_changed, std::memory_order_release);
  safe::events.filter_will_come.store(on_filter_will_come, std::memory_order_release);
  safe::events.filter_will_come_for_all.store(on_filter_will_come_for_all, std::memory_order_release);
  safe::events.thread_created.store(on_thread_created, std::memory_order_release);
  safe::events.signal_stack_is_small.store(on_signal_stack_is_small, std::memory_order_release);
  safe::events.signal_stacks_are_large.store(on_signal_stacks_are_large, std::memory_order_release);
  return true;
}

void forget_serving_after_fork() noexcept {
  serving.service.forget_after_fork();
  forget_clients_after_fork();
  // Under a filter they stay open.
  if (safe::may_ask_kernel()) serving.listeners.close_all();
  serving.starting.reset();
  safe::thread_state.keeps_agent_out = 0;
  serving.wanted = false;
  serving.rung = false;
  serving.is_deaf = false;
  serving.has_failed = false;
  serving.failed_at = kLongAgo;
  ++serving.forks;
}

void serve_anew_after_fork() noexcept {
  serving.reopen = true;
  start_soon();
}

void end_serving() noexcept {
  serving.listeners.unlink_files();
}

}  // namespace profagent
