// The agent's one thread. It is started and stopped by the program's threads, inside hooks, so those calls
// allocate nothing and throw nothing; what runs on the thread itself is ordinary C++.
//
// The thread is called "profagent", receives no signal, has no real-time priority, lends itself to nothing
// that the program does to its threads, and uses a descriptor table of its own where the kernel allows it. It
// touches only memory that is never unmapped, so the process may exit at any moment.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include <sys/types.h>

#include "agent/service/http_server.h"
#include "agent/service/listen.h"
#include "agent/service/server_thread.h"

namespace profagent::service {

struct ServiceOptions {
  // Must live for ever. Opened before.
  const Listeners* listeners = nullptr;
  // The next pthread_create: a hook of ours must not see this thread.
  CreateThread create_thread = nullptr;
  // Builds what is served. Called on the new thread, may throw and allocate.
  Site (*make_site)() = nullptr;
  unsigned idle_seconds = 0;                // the thread ends after so long without a client; 0: never
  bool (*may_retire)() noexcept = nullptr;  // false while nobody else would hear clients
  // Called by the thread as its last act when it has ended by itself, because nobody came or because it could
  // not go on: start() may be called again.
  void (*on_retired)(bool was_idle) noexcept = nullptr;
  bool keep_stderr = false;           // the log goes there
  std::int64_t filters_at_load = -1;  // OwnThread's
};

enum class ServiceState : std::uint32_t { kStopped, kRunning };

class Service {
 public:
  // Starts the thread unless it runs already. False, with a reason in last_problem(), when it cannot be.
  // After it has ended by itself (idle), a client may be waiting already: ask Listeners::client_is_waiting().
  bool start(const ServiceOptions& options) noexcept;

  // Ends the thread and waits until the kernel has forgotten it, so that setuid() or unshare() see a process
  // without it; also one that has ended by itself just now. False when it did not end within five seconds.
  // Not for our own thread.
  bool stop_and_join() noexcept;
  // The same without the kernel, on a thread that may not ask it, while nobody starts the service. When the
  // thread says that it has ended it has a few system calls left, which it is given 100 ms for.
  void stop_by_memory() noexcept;
  // Asked to end, it has not, and is not to any more.
  void go_on() noexcept { stop_.store(false, std::memory_order_release); }

  [[nodiscard]] bool is_running() const noexcept;
  // True on the thread itself.
  [[nodiscard]] bool is_this_thread() const noexcept;

  // In the child of a fork, where the thread does not exist.
  void forget_after_fork() noexcept;

  [[nodiscard]] const char* last_problem() const noexcept;

  // For /debug/pprof/agent: pid, start time, listeners, connections, descriptor table.
  [[nodiscard]] std::vector<Fact> facts() const;

  // The thread's body; public for its trampoline.
  void run() noexcept;

 private:
  bool serve() noexcept;

  ServiceOptions options_;
  std::atomic<std::uint32_t> state_{0};  // a futex: ServiceState
  std::atomic<bool> stop_{false};
  std::atomic<pid_t> tid_{0};
  std::atomic<std::int64_t> stopped_at_{0};  // safe::monotonic_now(); 0: never
  std::atomic<bool> shared_fd_table_{false};
  std::atomic<const char*> problem_{""};
  std::atomic<std::int64_t> started_at_{0};
  ServiceCounters counters_;
};

}  // namespace profagent::service
