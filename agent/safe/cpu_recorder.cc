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
#include "agent/safe/stack_table.h"
#include "agent/safe/sys.h"
#include "agent/safe/threads.h"
#include "agent/safe/unwind.h"

namespace profagent::safe {

constinit CpuRecorder cpu_recorder;
static_assert(std::is_trivially_destructible_v<CpuRecorder>);

void CpuRecorder::set_period(std::uint64_t nanos) noexcept {
  period_.store(nanos, std::memory_order_relaxed);
  cpu_timers.set_period(nanos);
}

bool CpuRecorder::prepare() noexcept {
  CpuKey overflow;
  overflow.stack = kOverflowStack;
  overflow_row_ = cpu_buckets.find_or_add(overflow);
  return overflow_row_ != 0;
}

void CpuRecorder::on_signal(CpuTimer& timer, std::uint32_t generation, const ucontext_t& context) noexcept {
  const std::uint64_t period = this->period();
  std::uint64_t now = 0;
  if (period == 0 || !read_cpu_clock(CLOCK_THREAD_CPUTIME_ID, now)) return;
  // Acquire pairs with the release in CpuTimers::add(): the value is of this generation, or a later one.
  std::int64_t until = timer.charged_until.load(std::memory_order_acquire);
  if (timer.generation.load(std::memory_order_relaxed) != generation) return;
  // kNotCharging, and a slot that was filled for this thread anew between the signal and us, lie ahead.
  const std::int64_t due = static_cast<std::int64_t>(now) - until;
  const auto step = static_cast<std::int64_t>(period);
  const std::int64_t weight = due - due % step;
  if (due < step) return;

  const std::size_t depth = recorded_depth();
  auto* pcs = static_cast<Pc*>(__builtin_alloca(depth * sizeof(Pc)));
  CpuKey key;
  key.stack = record_stack(frame_of(context), {pcs, depth});
  key.thread = current_thread_name();
  if (by_tid_.load(std::memory_order_relaxed)) key.tid = sys::gettid();
  BucketId row = cpu_buckets.find_or_add(key);
  if (row == 0) {
    count(counters.dropped_cpu_table_full);
    row = overflow_row_;
  }
  // Moved on before it is charged, and only from where it stood: when the slot has changed hands meanwhile,
  // the time is in the account that was handed on.
  if (!timer.charged_until.compare_exchange_strong(until, until + weight, std::memory_order_acq_rel)) return;
  cpu_buckets[row].nanos.fetch_add(static_cast<std::uint64_t>(weight),
                                   std::memory_order_release);  // pairs with is_used()
  count(counters.cpu_samples);
}

void CpuRecorder::settle(CpuTimer& timer, std::uint64_t now, const ThreadName& name) noexcept {
  const auto step = static_cast<std::int64_t>(period());
  std::int64_t until = timer.charged_until.load(std::memory_order_acquire);
  const std::int64_t due = static_cast<std::int64_t>(now) - until;
  if (step == 0 || due < step) return;
  CpuKey key;
  key.thread = name;
  const BucketId row = cpu_buckets.find_or_add(key);
  if (row == 0) return;
  const std::int64_t weight = due - due % step;
  if (!timer.charged_until.compare_exchange_strong(until, until + weight, std::memory_order_acq_rel)) return;
  cpu_buckets[row].nanos.fetch_add(static_cast<std::uint64_t>(weight), std::memory_order_release);
}

void CpuRecorder::on_thread_start() noexcept {
  const std::uint64_t period = this->period();
  // A child that was made past our fork handler has our memory, but nobody has asked it.
  if (period == 0 || !cpu_signal.is_own_process() || cpu_signal.is_blocked_here()) return;
  const std::int64_t begin = -static_cast<std::int64_t>(random_rest(period, &period));
  // Nobody else marks this thread. What others mark only seems to be in the way.
  AddResult result = AddResult::kStale;
  for (int i = 0; i < 4 && result == AddResult::kStale; ++i)
    result = cpu_timers.add(sys::gettid(), begin, threads.marks());
  if (result == AddResult::kNoRoom) count(counters.cpu_threads_without_timer);
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
