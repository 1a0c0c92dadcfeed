#include "agent/safe/cpu_recorder.h"

#include <ctime>
#include <type_traits>

#include <sys/prctl.h>

#include "agent/safe/counters.h"
#include "agent/safe/cpu_buckets.h"
#include "agent/safe/cpu_signal.h"
#include "agent/safe/random.h"
#include "agent/safe/record_stack.h"
#include "agent/safe/signal_stack.h"
#include "agent/safe/sys.h"
#include "agent/safe/unwind.h"

namespace profagent::safe {

constinit CpuRecorder cpu_recorder;
static_assert(std::is_trivially_destructible_v<CpuRecorder>);

void CpuRecorder::set_period(std::uint64_t nanos) noexcept {
  period_.store(nanos, std::memory_order_relaxed);
  cpu_timers.set_period(nanos);
}

void CpuRecorder::on_signal(CpuTimer& timer, const ucontext_t& context) noexcept {
  const std::uint64_t period = this->period();
  std::uint64_t now = 0;
  if (period == 0 || !read_cpu_clock(CLOCK_THREAD_CPUTIME_ID, now)) return;
  const std::uint64_t until = timer.until.load(std::memory_order_relaxed);
  // Later than now: the slot was filled for this thread anew, between the signal and us.
  if (until > now) return;
  const std::uint64_t due = now - until + timer.rest.load(std::memory_order_relaxed);
  const std::uint64_t weight = due - due % period;
  if (weight == 0) return;

  const std::size_t depth = recorded_depth();
  auto* pcs = static_cast<Pc*>(__builtin_alloca(depth * sizeof(Pc)));
  CpuKey key;
  key.stack = record_stack(frame_of(context), {pcs, depth});
  sys::call(SYS_prctl, PR_GET_NAME, reinterpret_cast<long>(key.thread.words));
  if (by_tid_.load(std::memory_order_relaxed)) key.tid = sys::gettid();
  const BucketId row = cpu_buckets.find_or_add(key);
  // Not charged: the time stays the thread's, and is added to its next sample or shown as not sampled.
  if (row == 0) return count(counters.dropped_cpu_table_full);
  cpu_buckets[row].nanos.fetch_add(weight, std::memory_order_release);  // pairs with is_used()
  timer.until.store(now, std::memory_order_relaxed);
  timer.rest.store(due - weight, std::memory_order_relaxed);
  timer.charged.store(timer.charged.load(std::memory_order_relaxed) + weight, std::memory_order_relaxed);
  count(counters.cpu_samples);
}

void CpuRecorder::on_thread_start() noexcept {
  const std::uint64_t period = this->period();
  const int signal = cpu_signal.number();
  if (period == 0 || signal == 0 || cpu_signal.is_blocked_here()) return;
  CpuAccount account;
  account.rest = random_rest(period, &account);
  cpu_timers.add(sys::gettid(), account);
}

void CpuRecorder::forget_after_fork() noexcept {
  period_.store(0, std::memory_order_relaxed);
  by_tid_.store(false, std::memory_order_relaxed);
  cpu_timers.forget_after_fork();
  cpu_signal.on_fork_child();
  free_signal_stacks_after_fork();
}

std::uint64_t random_rest(std::uint64_t period, const void* thread_object) noexcept {
  std::uint64_t state = make_seed(thread_object);
  return next_random(state) % period;
}

}  // namespace profagent::safe
