// Runs the CPU timers for as long as somebody asks: one sampler for all requests, a window of it for each.
// On our thread only.
//
// Every thread's CPU time ends up in one of two places: charged to stacks (agent/safe/cpu_recorder.h), or,
// for a thread that cannot be signalled, accounted for here with the reason why.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <sys/types.h>

#include "agent/safe/cpu_buckets.h"
#include "agent/safe/cpu_timers.h"
#include "agent/service/marked_threads.h"

namespace profagent::service {

// Why a thread's CPU time has no stack.
enum class NotSampled : std::uint8_t {
  kSampled,
  kBlocksSignal,
  kSmallSignalStack,
  kFiltered,  // a system call filter that the program has installed may end it for what we call
  kNoTimer,   // more threads than timers: they take turns, and this is what no turn has covered yet
  kNoSignal,  // the program uses all signals that would do
  kRefused,   // the kernel has no timer for it
  kTooShort,  // used since a thread's last sample, or by a thread that ended before its first
};
[[nodiscard]] std::string_view text_of(NotSampled why) noexcept;

class CpuSampler {
 public:
  // `filters_at_load`: system call filters that the process was born with; negative when not known.
  explicit CpuSampler(std::int64_t filters_at_load) : filters_at_load_(filters_at_load) {}
  ~CpuSampler();
  CpuSampler(const CpuSampler&) = delete;
  CpuSampler& operator=(const CpuSampler&) = delete;

  // CPU time that was charged to a stack within a window.
  struct Charge {
    safe::CpuKey key;
    std::uint64_t nanos;
  };
  // CPU time that has no stack.
  struct Uncharged {
    safe::ThreadName thread;  // empty: of no thread in particular
    pid_t tid;                // 0: of a thread that has ended
    NotSampled why;
    std::uint64_t nanos;
  };

  // What threads that have ended left uncharged: bounded, because a program may make new names for ever.
  static constexpr std::size_t kMostDeparted = 1024;
  using Departed = std::map<std::pair<std::string, NotSampled>, std::uint64_t>;

  // One request's part. The sampler runs while there is one.
  class Window {
   public:
    ~Window();
    Window(const Window&) = delete;
    Window& operator=(const Window&) = delete;

    struct Result {
      std::vector<Charge> charges;
      std::vector<Uncharged> uncharged;
      std::int64_t duration = 0;  // ns
    };
    // Looks at all threads once more, but gives no timers: what they would charge comes too late.
    [[nodiscard]] Result finish();
    // ns since 1970.
    [[nodiscard]] std::int64_t began() const noexcept { return began_; }

   private:
    friend class CpuSampler;
    Window(CpuSampler& sampler, std::uint64_t period, bool by_tid);
    void begin();

    CpuSampler& sampler_;
    std::uint64_t period_;
    bool by_tid_;
    [[nodiscard]] std::vector<Charge> charges() const;
    [[nodiscard]] std::vector<Uncharged> uncharged() const;
    [[nodiscard]] std::uint64_t program_used() const;

    std::vector<std::uint64_t> charged_before_;    // by row of safe::cpu_buckets
    std::vector<std::uint64_t> uncharged_before_;  // by position in threads_
    Departed departed_before_;
    std::uint64_t process_before_;  // ns of CPU time, and how much of it was our own thread's
    std::uint64_t own_before_;
    std::int64_t began_;
    std::int64_t began_monotonic_;
  };

  // `period` in ns of CPU time; the shortest of all windows is the one in force.
  [[nodiscard]] std::unique_ptr<Window> open(std::uint64_t period, bool by_tid);

  // Looks for new and gone threads when that is due. Seconds until it wants to be called again.
  double tend();

  [[nodiscard]] bool is_running() const noexcept { return !windows_.empty(); }
  // Most timers that existed at once since the sampler was started.
  [[nodiscard]] std::size_t most_timers() const noexcept { return most_timers_; }

 private:
  struct Thread {
    pid_t tid = 0;            // 0: the position is free
    bool was_seen = false;    // by the scan that is under way
    bool is_waiting = false;  // for a timer
    NotSampled why = NotSampled::kSampled;
    safe::ThreadName name;
    std::uint64_t cpu = 0;   // ns, at the last scan
    std::uint64_t used = 0;  // ns, between the last two scans
    // Where charging goes on when it gets a timer, on its CPU clock; with a timer, as it was at the last
    // scan.
    std::int64_t charged_until = 0;
    // ns that no stack will be charged with any more, and why (the latest reason).
    std::uint64_t uncharged = 0;
    NotSampled uncharged_why = NotSampled::kSampled;
    std::uint64_t used_in_vain = 0;  // ns, since its timer last charged anything
  };

  void scan(bool give);
  Thread& thread_of(pid_t tid, std::uint64_t cpu);
  void end_thread(std::size_t position);
  void settle();
  void look_at(pid_t tid);
  void check_timer(Thread& thread, const safe::CpuTimer& timer);
  void reap();
  void give_timers();
  void give_timer(Thread& thread);
  bool make_room();
  void take_timer(Thread& thread, NotSampled why);
  void give_up(Thread& thread, NotSampled why);
  [[nodiscard]] NotSampled mark_of(const Thread& thread) const;
  [[nodiscard]] NotSampled obstacle_of(const Thread& thread) const;
  [[nodiscard]] static std::uint64_t due_of(const Thread& thread) noexcept;
  [[nodiscard]] static std::uint64_t uncharged_of(const Thread& thread) noexcept;
  void update_rate();
  void start();
  void stop();
  void close(const Window& window);

  std::int64_t filters_at_load_;
  std::vector<Window*> windows_;
  std::vector<Thread> threads_;    // a position never changes while there are windows
  std::vector<std::size_t> free_;  // positions without a thread
  Departed departed_;
  std::unordered_map<pid_t, std::size_t> living_;  // tid to position
  MarkedThreads marked_;
  std::size_t turn_ = 0;  // of make_room()
  std::size_t most_timers_ = 0;
  bool is_first_scan_ = false;
  std::int64_t next_scan_ = 0;  // CLOCK_MONOTONIC, ns
};

}  // namespace profagent::service
