#include "agent/service/cpu_sampler.h"

#include <algorithm>
#include <ctime>
#include <stdexcept>
#include <utility>

#include <sys/resource.h>

#include "agent/safe/clock.h"
#include "agent/safe/cpu_recorder.h"
#include "agent/safe/cpu_signal.h"
#include "agent/safe/signal_stack.h"
#include "agent/safe/sys.h"
#include "agent/safe/thread_status.h"
#include "agent/safe/threads.h"
#include "agent/service/text_parts.h"
#include "agent/service/thread_list.h"

namespace profagent::service {

namespace {

using safe::cpu_recorder;
using safe::cpu_signal;
using safe::cpu_timers;

constexpr std::int64_t kMillisecond = 1'000'000;
// New threads are found at birth; the scan is for those that are made past pthread_create, and for the dead.
constexpr std::int64_t kScanEvery = 50 * kMillisecond;
// A scan takes at most one hundredth of one processor.
constexpr std::int64_t kScanShare = 100;
constexpr std::int64_t kScanAtLeastEvery = 10'000 * kMillisecond;
// A timer that has not charged anything while its thread used so much CPU time is looked at.
constexpr std::uint64_t kInVainPeriods = 4;
constexpr std::uint64_t kInVain = 30 * kMillisecond;
// Threads that get a timer at the cost of another one in one scan.
constexpr std::size_t kMostTurns = 256;
// The limit of pending signals is the user's, for all processes: most of it is not ours.
constexpr std::size_t kLimitShare = 4;

std::size_t most_timers_allowed() {
  rlimit limit{};
  if (safe::sys::call(SYS_getrlimit, RLIMIT_SIGPENDING, reinterpret_cast<long>(&limit)) != 0 ||
      limit.rlim_cur == RLIM_INFINITY) {
    return safe::CpuTimers::kMostTimers;
  }
  return std::min<std::size_t>(safe::CpuTimers::kMostTimers, limit.rlim_cur / kLimitShare);
}

bool blocks(const safe::ThreadStatus& status, int signal) {
  return ((status.blocked_signals >> (signal - 1)) & 1) != 0;
}

}  // namespace

std::string_view text_of(NotSampled why) noexcept {
  switch (why) {
    case NotSampled::kSampled:
      return "";
    case NotSampled::kBlocksSignal:
      return "blocks the signal";
    case NotSampled::kSmallSignalStack:
      return "alternate signal stack too small";
    case NotSampled::kFiltered:
      return "system call filter";
    case NotSampled::kNoTimer:
      return "no timer left";
    case NotSampled::kNoSignal:
      return "no signal is free";
    case NotSampled::kRefused:
      return "no timer to be had";
    case NotSampled::kTooShort:
      return "too short for a sample";
  }
  return "";
}

CpuSampler::~CpuSampler() {
  if (is_running()) stop();
}

void CpuSampler::start() {
  if (!cpu_timers.prepare() || !safe::prepare_signal_stacks() || !cpu_recorder.prepare()) {
    throw std::runtime_error("no memory left for a CPU profile: PROFAGENT_MAX_MEMORY is too small");
  }
  safe::threads.reclaim();
  cpu_timers.remove_all();  // of a thread that was born when the last profile ended
  threads_.clear();
  living_.clear();
  free_.clear();
  departed_.clear();
  most_timers_ = 0;
  cpu_timers.set_limit(most_timers_allowed());
  is_first_scan_ = true;
}

// The recorder first: a signal that is under way finds nothing to do.
void CpuSampler::stop() {
  cpu_recorder.set_period(0);
  cpu_timers.remove_all();
  windows_.clear();
}

std::unique_ptr<CpuSampler::Window> CpuSampler::open(std::uint64_t period, bool by_tid) {
  if (!is_running()) start();
  // std::make_unique cannot see the constructor.
  std::unique_ptr<Window> window(new Window(*this, period, by_tid));
  windows_.push_back(window.get());
  update_rate();
  scan(true);
  is_first_scan_ = false;
  window->begin();
  return window;
}

void CpuSampler::close(const Window& window) {
  std::erase(windows_, &window);
  if (windows_.empty()) return stop();
  update_rate();
}

void CpuSampler::update_rate() {
  std::uint64_t period = windows_.front()->period_;
  bool by_tid = false;
  for (const Window* window : windows_) {
    period = std::min(period, window->period_);
    by_tid = by_tid || window->by_tid_;
  }
  cpu_recorder.set_by_tid(by_tid);
  cpu_recorder.set_period(period);
}

double CpuSampler::tend() {
  const std::int64_t now = safe::monotonic_now();
  if (now >= next_scan_) scan(true);
  // Not 0, which means "not again".
  return safe::to_seconds(std::max(next_scan_ - safe::monotonic_now(), kMillisecond));
}

void CpuSampler::scan(bool give) {
  const std::int64_t begin = safe::now_by(CLOCK_THREAD_CPUTIME_ID);
  // Time and again: the program may take the signal past our hooks.
  static_cast<void>(cpu_signal.take());
  static_cast<void>(marked_.refresh());
  const pid_t own = safe::sys::gettid();
  for (const pid_t tid : list_threads()) {
    if (tid != own) look_at(tid);
  }
  reap();
  if (give) give_timers();
  most_timers_ = std::max(most_timers_, cpu_timers.count());
  const std::int64_t cost = safe::now_by(CLOCK_THREAD_CPUTIME_ID) - begin;
  next_scan_ = safe::monotonic_now() + std::clamp(cost * kScanShare, kScanEvery, kScanAtLeastEvery);
}

CpuSampler::Thread& CpuSampler::thread_of(pid_t tid, std::uint64_t cpu) {
  const auto found = living_.find(tid);
  if (found != living_.end()) {
    Thread& known = threads_[found->second];
    if (cpu >= known.cpu) return known;
    // A CPU clock does not go back: the id has been given to another thread.
    end_thread(found->second);
  }
  std::size_t position = threads_.size();
  if (free_.empty()) {
    threads_.emplace_back();
  } else {
    position = free_.back();
    free_.pop_back();
  }
  Thread& thread = threads_[position];
  thread = {};
  thread.tid = tid;
  thread.name = read_thread_name(tid);
  thread.why = NotSampled::kNoTimer;
  // Whoever is here at the start has used its time before. A thread that comes later is new.
  thread.cpu = is_first_scan_ ? cpu : 0;
  thread.charged_until = static_cast<std::int64_t>(thread.cpu) -
                         static_cast<std::int64_t>(safe::random_rest(cpu_recorder.period(), &thread));
  living_[tid] = position;
  return thread;
}

void CpuSampler::end_thread(std::size_t position) {
  Thread& thread = threads_[position];
  take_timer(thread, thread.why);
  const std::uint64_t left = uncharged_of(thread);
  std::pair<std::string, NotSampled> key{
      thread.name.text(), thread.why == NotSampled::kNoTimer ? thread.why : thread.uncharged_why};
  if (departed_.size() >= kMostDeparted && departed_.count(key) == 0) key.first.clear();
  if (left != 0) departed_[key] += left;
  // What a window had seen of it before goes over with it.
  for (Window* window : windows_) {
    if (position >= window->uncharged_before_.size()) continue;
    if (const std::uint64_t before = std::exchange(window->uncharged_before_[position], 0); before != 0) {
      window->departed_before_[key] += before;
    }
  }
  thread = {};
  free_.push_back(position);
}

void CpuSampler::look_at(pid_t tid) {
  std::uint64_t cpu = 0;
  if (!safe::read_cpu_clock(safe::cpu_clock_of(tid), cpu)) return;
  Thread& thread = thread_of(tid, cpu);
  thread.was_seen = true;
  thread.used = cpu - thread.cpu;
  thread.cpu = cpu;
  thread.is_waiting = false;
  const safe::CpuTimer* timer = cpu_timers.find(tid);
  std::int64_t until = 0;
  if (timer != nullptr && timer->id.load(std::memory_order_relaxed) == 0 && cpu_timers.remove(tid, &until)) {
    // The kernel's was taken away, by the thread itself or with the signal; the account comes back to us.
    thread.charged_until = until;
  } else if (timer != nullptr) {
    thread.why = NotSampled::kSampled;
    return check_timer(thread, *timer);
  }
  // It had one.
  if (thread.why == NotSampled::kSampled) thread.why = NotSampled::kNoTimer;
  if (thread.why != NotSampled::kNoTimer) give_up(thread, thread.why);
  // At the start everybody gets one, as long as there are any; later only who runs.
  thread.is_waiting = is_first_scan_ || thread.used > 0;
}

void CpuSampler::check_timer(Thread& thread, const safe::CpuTimer& timer) {
  const std::int64_t until = timer.charged_until.load(std::memory_order_relaxed);
  if (until == safe::CpuTimer::kNotCharging) return;
  if (std::exchange(thread.charged_until, until) != until) thread.used_in_vain = 0;
  thread.used_in_vain += thread.used;
  if (thread.used_in_vain < kInVain + kInVainPeriods * cpu_recorder.period()) return;
  // The thread blocks the signal past our hooks, or the timer is that of a dead thread with the same id.
  thread.used_in_vain = 0;
  const NotSampled obstacle = obstacle_of(thread);
  take_timer(thread, obstacle == NotSampled::kSampled ? NotSampled::kNoTimer : obstacle);
  thread.is_waiting = obstacle == NotSampled::kSampled;
}

void CpuSampler::reap() {
  for (auto at = living_.begin(); at != living_.end();) {
    if (std::exchange(threads_[at->second].was_seen, false)) {
      ++at;
      continue;
    }
    end_thread(at->second);
    at = living_.erase(at);
  }
  // Those that got one at birth and died between two scans.
  cpu_timers.for_each([&](const safe::CpuTimer& timer) {
    const pid_t tid = safe::CpuTimers::tid_of(timer);
    std::uint64_t cpu = 0;
    if (living_.count(tid) == 0 && !safe::read_cpu_clock(safe::cpu_clock_of(tid), cpu))
      cpu_timers.remove(tid);
  });
}

void CpuSampler::give_timers() {
  std::size_t turns = 0;
  for (Thread& thread : threads_) {
    if (!thread.is_waiting) continue;
    const bool has_room = cpu_timers.count() < cpu_timers.limit();
    // Without room only those get one that run, at the cost of another thread.
    if (!has_room && (thread.used == 0 || turns >= kMostTurns || !make_room())) continue;
    if (!has_room) ++turns;
    give_timer(thread);
  }
}

void CpuSampler::give_timer(Thread& thread) {
  if (const NotSampled obstacle = obstacle_of(thread); obstacle != NotSampled::kSampled)
    return give_up(thread, obstacle);
  // Right before, so that the marks of others hardly ever change in between.
  const std::uint32_t marks = marked_.refresh();
  if (const NotSampled mark = mark_of(thread); mark != NotSampled::kSampled) return give_up(thread, mark);
  switch (cpu_timers.add(thread.tid, thread.charged_until, marks)) {
    case safe::AddResult::kAdded:
    case safe::AddResult::kHasOne:
      thread.why = NotSampled::kSampled;
      break;
    case safe::AddResult::kNoRoom:
    case safe::AddResult::kStale:  // the next scan tries again
      thread.why = NotSampled::kNoTimer;
      return;
    case safe::AddResult::kRefused:
      return give_up(thread, NotSampled::kRefused);
  }
  // It may have blocked the signal after we looked and before there was a timer to stop.
  static_cast<void>(marked_.refresh());
  if (const NotSampled obstacle = obstacle_of(thread); obstacle != NotSampled::kSampled)
    take_timer(thread, obstacle);
}

// Takes a timer from a thread that did not run, else from the one whose turn has lasted longest.
bool CpuSampler::make_room() {
  for (const bool only_idle : {true, false}) {
    for (std::size_t tries = 0; tries < threads_.size(); ++tries) {
      turn_ = (turn_ + 1) % threads_.size();
      Thread& thread = threads_[turn_];
      if (thread.tid == 0 || thread.why != NotSampled::kSampled || (only_idle && thread.used != 0)) continue;
      take_timer(thread, NotSampled::kNoTimer);
      return true;
    }
  }
  return false;
}

void CpuSampler::take_timer(Thread& thread, NotSampled why) {
  std::int64_t until = 0;
  if (cpu_timers.remove(thread.tid, &until)) thread.charged_until = until;
  if (why != NotSampled::kNoTimer && why != NotSampled::kSampled) return give_up(thread, why);
  thread.why = why;
}

// The time since the last charge will not get a stack any more.
void CpuSampler::give_up(Thread& thread, NotSampled why) {
  thread.uncharged += due_of(thread);
  thread.uncharged_why = why;
  thread.charged_until = std::max(thread.charged_until, static_cast<std::int64_t>(thread.cpu));
  thread.why = why;
}

NotSampled CpuSampler::mark_of(const Thread& thread) const {
  if (marked_.has_small_signal_stack(thread.tid)) return NotSampled::kSmallSignalStack;
  if (marked_.takes_cpu_signal(thread.tid)) return NotSampled::kBlocksSignal;
  return NotSampled::kSampled;
}

NotSampled CpuSampler::obstacle_of(const Thread& thread) const {
  const int signal = cpu_signal.number();
  if (signal == 0) return NotSampled::kNoSignal;
  if (const NotSampled mark = mark_of(thread); mark != NotSampled::kSampled) return mark;
  safe::ThreadStatus status;
  // Without /proc nobody can tell; most threads block nothing.
  if (!safe::read_thread_status(thread.tid, status)) return NotSampled::kSampled;
  if (blocks(status, signal)) return NotSampled::kBlocksSignal;
  if (may_be_filtered(status, filters_at_load_)) return NotSampled::kFiltered;
  return NotSampled::kSampled;
}

std::uint64_t CpuSampler::due_of(const Thread& thread) noexcept {
  const std::int64_t due = static_cast<std::int64_t>(thread.cpu) - thread.charged_until;
  return due > 0 ? static_cast<std::uint64_t>(due) : 0;
}

std::uint64_t CpuSampler::uncharged_of(const Thread& thread) noexcept {
  return thread.uncharged + (thread.why == NotSampled::kNoTimer ? due_of(thread) : 0);
}

void CpuSampler::settle() {
  for (const Thread& thread : threads_) {
    if (thread.tid == 0 || thread.why != NotSampled::kSampled) continue;
    safe::CpuTimer* timer = cpu_timers.find(thread.tid);
    std::uint64_t now = 0;
    if (timer == nullptr || !safe::read_cpu_clock(safe::cpu_clock_of(thread.tid), now)) continue;
    cpu_recorder.settle(*timer, now, read_thread_name(thread.tid));
  }
}

}  // namespace profagent::service
