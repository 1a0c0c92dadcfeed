#include "agent/service/cpu_sampler.h"

#include <algorithm>
#include <utility>

#include <sys/resource.h>

#include "agent/safe/cpu_recorder.h"
#include "agent/safe/cpu_signal.h"
#include "agent/safe/signal_stack.h"
#include "agent/safe/sys.h"
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
constexpr std::int64_t kScanAtLeastEvery = 1000 * kMillisecond;
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

bool blocks(const ThreadStatus& status, int signal) {
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
  }
  return "";
}

CpuSampler::~CpuSampler() {
  if (is_running()) stop();
}

void CpuSampler::start() {
  if (!cpu_timers.prepare() || !safe::prepare_signal_stacks()) throw std::bad_alloc();
  threads_.clear();
  living_.clear();
  free_.clear();
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
  scan();
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
  const std::int64_t now = monotonic_nanos();
  if (now >= next_scan_) scan();
  constexpr double kNanosPerSecond = 1e9;
  return static_cast<double>(std::max<std::int64_t>(next_scan_ - monotonic_nanos(), 0)) / kNanosPerSecond;
}

void CpuSampler::scan() {
  const std::int64_t begin = monotonic_nanos();
  // Time and again: the program may take the signal past our hooks.
  static_cast<void>(cpu_signal.take());
  small_stacks_.clear();
  safe::threads.for_each([&](const safe::ThreadSlot& slot) {
    if (slot.small_signal_stack.load(std::memory_order_relaxed))
      small_stacks_.push_back(slot.tid.load(std::memory_order_relaxed));
  });
  std::sort(small_stacks_.begin(), small_stacks_.end());
  waiting_.clear();
  const pid_t own = safe::sys::gettid();
  for (const pid_t tid : list_threads()) {
    if (tid != own) look_at(tid);
  }
  reap();
  give_timers();
  most_timers_ = std::max(most_timers_, cpu_timers.count());
  const std::int64_t end = monotonic_nanos();
  next_scan_ = end + std::clamp((end - begin) * kScanShare, kScanEvery, kScanAtLeastEvery);
}

CpuSampler::Thread& CpuSampler::thread_of(pid_t tid, std::uint64_t cpu) {
  const auto found = living_.find(tid);
  if (found != living_.end()) {
    Thread& known = threads_[found->second];
    if (cpu >= known.cpu) return known;
    // A CPU clock does not go back: the id has been given to another thread.
    end_thread(found->second);
  }
  Thread thread;
  thread.tid = tid;
  thread.name = read_thread_name(tid);
  thread.why = NotSampled::kNoTimer;
  // Whoever is here at the start has used its time before. A thread that comes later is new.
  thread.cpu = is_first_scan_ ? cpu : 0;
  thread.account.until = thread.cpu;
  thread.account.rest = safe::random_rest(cpu_recorder.period(), &thread);
  std::size_t position = threads_.size();
  if (free_.empty()) {
    threads_.push_back(thread);
  } else {
    position = free_.back();
    free_.pop_back();
    threads_[position] = thread;
  }
  living_[tid] = position;
  return threads_[position];
}

void CpuSampler::end_thread(std::size_t position) {
  Thread& thread = threads_[position];
  take_timer(thread, thread.why);
  thread.is_gone = true;
  if (uncharged_of(thread) == 0) free_.push_back(position);
}

void CpuSampler::look_at(pid_t tid) {
  std::uint64_t cpu = 0;
  if (!safe::read_cpu_clock(safe::cpu_clock_of(tid), cpu)) return;
  Thread& thread = thread_of(tid, cpu);
  thread.was_seen = true;
  thread.used = cpu - thread.cpu;
  thread.cpu = cpu;
  if (const safe::CpuTimer* timer = cpu_timers.find(tid); timer != nullptr) {
    thread.why = NotSampled::kSampled;
    return check_timer(thread, *timer);
  }
  // It had one, which was taken away (by the thread itself, or with the signal).
  if (thread.why == NotSampled::kSampled) thread.why = NotSampled::kNoTimer;
  if (thread.why != NotSampled::kNoTimer) {
    thread.uncharged += thread.used;
    thread.uncharged_why = thread.why;
    thread.account.until = cpu;
  }
  // At the start everybody gets one, as long as there are any; later only who runs.
  if (is_first_scan_ || thread.used > 0) waiting_.push_back(living_[tid]);
}

void CpuSampler::check_timer(Thread& thread, const safe::CpuTimer& timer) {
  // For the case that the thread takes its timer away itself.
  thread.account.until = timer.until.load(std::memory_order_relaxed);
  thread.account.rest = timer.rest.load(std::memory_order_relaxed);
  const std::uint64_t charged = timer.charged.load(std::memory_order_relaxed);
  if (std::exchange(thread.charged, charged) != charged) thread.used_in_vain = 0;
  thread.used_in_vain += thread.used;
  if (thread.used_in_vain < kInVain + kInVainPeriods * cpu_recorder.period()) return;
  // The thread blocks the signal past our hooks, or the timer is that of a dead thread with the same id.
  thread.used_in_vain = 0;
  const NotSampled obstacle = obstacle_of(thread);
  take_timer(thread, obstacle == NotSampled::kSampled ? NotSampled::kNoTimer : obstacle);
  if (obstacle == NotSampled::kSampled) waiting_.push_back(living_[thread.tid]);
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
  for (const std::size_t position : waiting_) {
    Thread& thread = threads_[position];
    if (thread.is_gone) continue;
    give_timer(thread);
    if (thread.why != NotSampled::kNoTimer || thread.used == 0 || turns++ == kMostTurns) continue;
    if (make_room()) give_timer(thread);
  }
}

void CpuSampler::give_timer(Thread& thread) {
  if (const NotSampled obstacle = obstacle_of(thread); obstacle != NotSampled::kSampled) {
    // What it has used while it waited for a timer is lost as well.
    thread.uncharged = uncharged_of(thread);
    thread.uncharged_why = obstacle;
    thread.account.until = thread.cpu;
    thread.why = obstacle;
    return;
  }
  switch (cpu_timers.add(thread.tid, thread.account)) {
    case safe::AddResult::kAdded:
    case safe::AddResult::kHasOne:
      thread.why = NotSampled::kSampled;
      thread.charged = 0;
      break;
    case safe::AddResult::kNoRoom:
      thread.why = NotSampled::kNoTimer;
      break;
    case safe::AddResult::kRefused:
      thread.why = NotSampled::kRefused;
      break;
  }
}

// Takes a timer from a thread that did not run, else from the one whose turn has lasted longest.
bool CpuSampler::make_room() {
  for (const bool only_idle : {true, false}) {
    for (std::size_t tries = 0; tries < threads_.size(); ++tries) {
      turn_ = (turn_ + 1) % threads_.size();
      Thread& thread = threads_[turn_];
      if (thread.is_gone || thread.why != NotSampled::kSampled || (only_idle && thread.used != 0)) continue;
      take_timer(thread, NotSampled::kNoTimer);
      return true;
    }
  }
  return false;
}

void CpuSampler::take_timer(Thread& thread, NotSampled why) {
  const bool had_timer = cpu_timers.remove(thread.tid, &thread.account);
  if (had_timer && why != NotSampled::kNoTimer && why != NotSampled::kSampled) {
    thread.uncharged += thread.cpu > thread.account.until ? thread.cpu - thread.account.until : 0;
    thread.uncharged_why = why;
    thread.account.until = thread.cpu;
  }
  thread.why = why;
}

NotSampled CpuSampler::obstacle_of(const Thread& thread) const {
  const int signal = cpu_signal.number();
  if (signal == 0) return NotSampled::kNoSignal;
  if (std::binary_search(small_stacks_.begin(), small_stacks_.end(), thread.tid))
    return NotSampled::kSmallSignalStack;
  const auto status = read_thread_status(thread.tid);
  // Without /proc nobody can tell; most threads block nothing.
  if (!status) return NotSampled::kSampled;
  if (blocks(*status, signal)) return NotSampled::kBlocksSignal;
  if (filters_at_load_ >= 0 && status->filters > filters_at_load_) return NotSampled::kFiltered;
  return NotSampled::kSampled;
}

std::uint64_t CpuSampler::uncharged_of(const Thread& thread) noexcept {
  if (thread.why != NotSampled::kNoTimer || thread.cpu < thread.account.until) return thread.uncharged;
  return thread.uncharged + (thread.cpu - thread.account.until);
}

CpuSampler::Window::Window(CpuSampler& sampler, std::uint64_t period, bool by_tid)
    : sampler_(sampler), period_(period), by_tid_(by_tid) {}

CpuSampler::Window::~Window() {
  sampler_.close(*this);
}

void CpuSampler::Window::begin() {
  safe::cpu_buckets.for_each_id([&](safe::BucketId id, const safe::CpuBucket& row) {
    if (id >= charged_before_.size()) charged_before_.resize(id + 1);
    charged_before_[id] = row.nanos.load(std::memory_order_relaxed);
  });
  uncharged_before_.reserve(sampler_.threads_.size());
  for (const Thread& thread : sampler_.threads_) uncharged_before_.push_back(uncharged_of(thread));
}

std::vector<CpuSampler::Charge> CpuSampler::Window::charges() const {
  std::vector<Charge> charges;
  safe::cpu_buckets.for_each_id([&](safe::BucketId id, const safe::CpuBucket& row) {
    const std::uint64_t before = id < charged_before_.size() ? charged_before_[id] : 0;
    const std::uint64_t now = row.nanos.load(std::memory_order_relaxed);
    if (now > before) charges.push_back({row, now - before});
  });
  return charges;
}

std::vector<CpuSampler::Uncharged> CpuSampler::Window::uncharged() {
  sampler_.scan();
  std::vector<Uncharged> result;
  for (std::size_t i = 0; i < sampler_.threads_.size(); ++i) {
    const Thread& thread = sampler_.threads_[i];
    const std::uint64_t before = i < uncharged_before_.size() ? uncharged_before_[i] : 0;
    const std::uint64_t now = uncharged_of(thread);
    if (now <= before) continue;
    const NotSampled why = thread.why == NotSampled::kNoTimer ? thread.why : thread.uncharged_why;
    result.push_back({thread.name, thread.tid, why, now - before});
  }
  return result;
}

}  // namespace profagent::service
