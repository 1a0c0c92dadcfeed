#include "agent/service/server.h"

#include <cerrno>
#include <climits>
#include <csignal>
#include <string>

#include <linux/futex.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/safe/clock.h"
#include "agent/safe/sys.h"
#include "agent/service/fd_table.h"
#include "agent/service/own_memory.h"
#include "agent/service/own_thread.h"
#include "agent/service/server_thread.h"

namespace profagent::service {

namespace {

namespace sys = safe::sys;

constexpr auto kStopped = static_cast<std::uint32_t>(ServiceState::kStopped);
constexpr auto kRunning = static_cast<std::uint32_t>(ServiceState::kRunning);
constexpr std::int64_t kStopPatience = 5'000'000'000;  // ns; a request may be in the middle of its work

void* trampoline(void* service) {
  static_cast<Service*>(service)->run();
  return nullptr;
}

}  // namespace

bool Service::start(const ServiceOptions& options) noexcept {
  std::uint32_t expected = kStopped;
  if (!state_.compare_exchange_strong(expected, kRunning, std::memory_order_acq_rel)) return true;
  options_ = options;
  stop_.store(false, std::memory_order_relaxed);
  tid_.store(0, std::memory_order_relaxed);
  const int error = create_service_thread(options.create_thread, trampoline, this);
  if (error == 0) return true;
  problem_.store("the thread cannot be created", std::memory_order_relaxed);
  state_.store(kStopped, std::memory_order_release);
  return false;
}

bool Service::stop_and_join() noexcept {
  if (is_this_thread()) return false;
  const std::int64_t give_up = safe::monotonic_now() + kStopPatience;
  while (state_.load(std::memory_order_acquire) != kStopped) {
    if (safe::monotonic_now() > give_up) return false;
    stop_.store(true, std::memory_order_release);  // pairs with the acquire in http_server.cc
    // Again and again: the thread may not have come to its loop yet, and the wake-up may be lost.
    if (!options_.listeners->wake()) options_.listeners->connect_once();
    const timespec pause{0, 20'000'000};
    sys::call(SYS_futex, reinterpret_cast<long>(&state_), FUTEX_WAIT_PRIVATE, kRunning,
              reinterpret_cast<long>(&pause));
  }
  // Long after its end its number may be another thread's.
  const std::int64_t surely_gone = stopped_at_.load(std::memory_order_relaxed) + kStopPatience;
  if (safe::monotonic_now() > surely_gone) return true;
  return wait_until_gone(tid_.load(std::memory_order_relaxed), give_up);
}

void Service::stop_by_memory() noexcept {
  constexpr std::int64_t kForTheRest = 100'000'000;  // ns
  stop_.store(true, std::memory_order_release);      // pairs with the acquire in http_server.cc
  safe::spin_until([this] { return !is_running(); }, kStopPatience);
  safe::spin(kForTheRest);
}

bool Service::is_running() const noexcept {
  return state_.load(std::memory_order_seq_cst) == kRunning;
}

bool Service::is_this_thread() const noexcept {
  return is_running() && tid_.load(std::memory_order_relaxed) == sys::gettid();
}

void Service::forget_after_fork() noexcept {
  state_.store(kStopped, std::memory_order_relaxed);
  stop_.store(false, std::memory_order_relaxed);
  tid_.store(0, std::memory_order_relaxed);
  counters_.connections_open.store(0, std::memory_order_relaxed);
}

const char* Service::last_problem() const noexcept {
  return problem_.load(std::memory_order_relaxed);
}

void Service::run() noexcept {
  tid_.store(sys::gettid(), std::memory_order_relaxed);
  settle_service_thread();
  const bool was_idle = serve();
  // From here on the thread touches nothing but its own stack: start() may write the options for the next
  // one.
  const auto on_retired = stop_.load(std::memory_order_acquire) ? nullptr : options_.on_retired;
  stopped_at_.store(safe::monotonic_now(), std::memory_order_relaxed);
  // Sequentially consistent, as is_running() and what on_retired() looks at: who finds us running has said
  // before that no signal may come, and is heard.
  state_.store(kStopped, std::memory_order_seq_cst);
  sys::call(SYS_futex, reinterpret_cast<long>(&state_), FUTEX_WAKE_PRIVATE, INT_MAX);
  if (on_retired != nullptr) on_retired(was_idle);
}

// True: nobody came.
bool Service::serve() noexcept {
  int fds[kMaxAddresses + 1];
  std::size_t count = 0;
  // The program may have closed one and got its number for something of its own.
  if (!Listeners::are_ours(options_.listeners->all())) {
    problem_.store("the program has closed a descriptor of the agent", std::memory_order_relaxed);
    return false;
  }
  for (const Listener& listener : options_.listeners->all()) fds[count++] = listener.fd;
  const bool own_table = take_own_fd_table({fds, count}, options_.keep_stderr);
  shared_fd_table_.store(!own_table, std::memory_order_relaxed);
  own_thread = {.stop = &stop_, .has_own_fd_table = own_table, .filters_at_load = options_.filters_at_load};
  started_at_.store(safe::now_by(CLOCK_REALTIME) / safe::kNanosPerSecond, std::memory_order_relaxed);
  if (!own_memory::open()) {
    problem_.store("no address space for the agent's memory (ulimit -v?)", std::memory_order_relaxed);
    return false;
  }
  HttpEnd end = HttpEnd::kStopped;
  try {
    const Site site = options_.make_site();
    HttpServerOptions http;
    http.listeners = options_.listeners->all();
    http.shared_fd_table = !own_table;
    http.idle_seconds = options_.idle_seconds;
    http.may_retire = options_.may_retire;
    http.stop = &stop_;
    http.counters = &counters_;
    end = serve_http(site, http);
    if (end == HttpEnd::kRobbed)
      problem_.store("the program has closed the agent's descriptors", std::memory_order_relaxed);
  } catch (...) {
    // Nothing may leave the thread: it would end the program.
    problem_.store("the server has failed (out of memory or descriptors)", std::memory_order_relaxed);
  }
  own_memory::trim();
  return end == HttpEnd::kIdle;
}

std::vector<Fact> Service::facts() const {
  std::vector<Fact> facts;
  const auto number = [&](const char* section, const char* name, std::uint64_t value) {
    facts.push_back({section, name, static_cast<std::int64_t>(value)});
  };
  number("service", "pid", static_cast<std::uint64_t>(sys::getpid()));
  number("service", "tid", static_cast<std::uint64_t>(tid_.load(std::memory_order_relaxed)));
  number("service", "started_at_unix",
         static_cast<std::uint64_t>(started_at_.load(std::memory_order_relaxed)));
  std::vector<std::string> addresses;
  for (const Listener& listener : options_.listeners->all()) {
    if (listener.is_wake_up) continue;
    FixedText<160> text;
    describe(listener.address, &text);
    addresses.emplace_back(text.view());
  }
  facts.push_back({"service", "listeners", std::move(addresses)});
  facts.push_back({"service", "listener_problems", std::string(options_.listeners->problems())});
  facts.push_back(
      {"service", "descriptors",
       std::string(shared_fd_table_.load(std::memory_order_relaxed)
                       ? "in the program's table, high numbers: the kernel refuses a table of our own"
                       : "in a table of our own")});
  facts.push_back({"service", "last_problem", std::string(last_problem() == nullptr ? "" : last_problem())});
  const auto metric = [&](const char* section, const char* name, std::uint64_t value, Metric kind,
                          std::string_view help) {
    facts.push_back({section, name, static_cast<std::int64_t>(value), kind, help});
  };
  const auto counter = [&](const char* name, const std::atomic<std::uint64_t>& value, std::string_view help,
                           Metric kind = Metric::kCounter) {
    metric("service", name, value.load(std::memory_order_relaxed), kind, help);
  };
  counter("connections", counters_.connections, "connections accepted");
  counter("connections_open", counters_.connections_open, "connections open now", Metric::kGauge);
  counter("connections_over_limit", counters_.connections_over_limit, "connections closed: too many at once");
  counter("connections_crowded_out", counters_.connections_crowded_out,
          "connections of those who may not ask, closed for newer ones");
  counter("requests", counters_.requests, "requests received");
  counter("requests_refused", counters_.requests_refused, "requests of those who may not ask");
  counter("requests_broken", counters_.requests_broken, "requests that were no HTTP, too large or too slow");
  counter("requests_cancelled", counters_.requests_cancelled, "collections whose client has gone");
  counter("errors", counters_.errors, "requests answered with 500");
  counter("restarts", counters_.restarts, "times that the server had to begin anew");
  const own_memory::Stats memory = own_memory::stats();
  const auto bytes = [&](const char* name, std::size_t value, std::string_view help) {
    metric("memory", name, value, Metric::kGauge, help);
  };
  bytes("reserved_bytes", memory.reserved, "address space reserved for what our thread needs");
  bytes("held_bytes", memory.held, "memory that our thread holds");
  bytes("in_use_bytes", memory.in_use, "of that, in use");
  bytes("peak_held_bytes", memory.peak_held, "the most that our thread has held");
  metric("memory", "failures", memory.failures, Metric::kCounter, "times that our thread was refused memory");
  return facts;
}

}  // namespace profagent::service
