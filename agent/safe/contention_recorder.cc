#include "agent/safe/contention_recorder.h"

#include <algorithm>
#include <span>
#include <type_traits>

#include "agent/safe/counters.h"
#include "agent/safe/events.h"
#include "agent/safe/random.h"
#include "agent/safe/record_stack.h"
#include "agent/safe/settings.h"
#include "agent/safe/stack_table.h"
#include "agent/safe/thread_state.h"
#include "agent/safe/threads.h"

namespace profagent::safe {

constinit ContentionRecorder contention_recorder;
static_assert(std::is_trivially_destructible_v<ContentionRecorder>);

namespace {

constexpr std::uint64_t kUnit = ContentionBucket::kCountUnit;

std::uint64_t random_below(std::uint64_t bound) noexcept {
  ThreadState& thread = thread_state;
  if (thread.random == 0) thread.random = make_seed(&thread);
  return next_random(thread.random) % bound;
}

// So many frames that one is no longer the program's way of calling unlock().
constexpr std::size_t kHolderDepth = 6;

StackId holder_stack(const void* argument) noexcept {
  if (!may_ask_kernel()) return kNoStack;
  const SafeSection section;
  Pc pcs[kHolderDepth];
  const Stack stack = capture_stack(static_cast<const Wait*>(argument)->caller, pcs);
  return stack_table.intern(std::span(pcs).first(stack.depth), stack.hash);
}

// Not inlined: the room for the stack is its frame.
[[gnu::noinline]] StackId stack_of(const Wait& wait) noexcept {
  const std::size_t depth = recorded_depth();
  auto* pcs = static_cast<Pc*>(__builtin_alloca(depth * sizeof(Pc)));
  return record_stack_under(wait.function, wait.caller, {pcs, depth});
}

ContentionKey key_of(StackId stack, WaitKind kind) noexcept {
  ContentionKey key;
  key.stack = stack;
  key.kind = kind;
  return key;
}

Draw draw_for(std::int64_t rate) noexcept {
  Draw draw{.rate = rate};
  if (rate > 1) draw.beyond = static_cast<Nanos>(random_below(static_cast<std::uint64_t>(rate)));
  return draw;
}

BucketId find_row(ContentionBuckets& buckets, ContentionKey key) noexcept {
  // Rows that only labels tell apart must not take the room of stacks: they may come in any number.
  if (buckets.size() >= kMaxContentionBuckets / 2) key = key_of(key.stack, key.kind);
  return buckets.find_or_add(key);
}

void record(ContentionBuckets& buckets, BucketId row, std::uint64_t count_units,
            std::uint64_t nanos) noexcept {
  if (row == 0) return count(counters.dropped_contention_table_full);
  buckets[row].count.fetch_add(count_units, std::memory_order_relaxed);
  buckets[row].nanos.fetch_add(nanos, std::memory_order_release);  // pairs with is_used()
}

}  // namespace

void ContentionRecorder::update() noexcept {
  timing.store(block_rate() > 0 || mutex_fraction() > 0, std::memory_order_relaxed);
  watching_locks_.store(mutex_fraction() > 0 || label_holders_.load(std::memory_order_relaxed),
                        std::memory_order_relaxed);
}

void ContentionRecorder::set_block_rate(std::int64_t rate) noexcept {
  block_rate_.store(std::max<std::int64_t>(rate, 0), std::memory_order_relaxed);
  update();
}

void ContentionRecorder::set_mutex_fraction(std::int64_t fraction) noexcept {
  if (fraction < 0) return;
  mutex_fraction_.store(fraction, std::memory_order_relaxed);
  update();
}

ContentionLabels contention_labels() noexcept {
  // The words stand for the numbers of their two bits: none, lock, holder, both.
  const std::int64_t bits = settings.contention_labels.load(std::memory_order_relaxed);
  return {.locks = (bits & 1) != 0, .holders = (bits & 2) != 0};
}

void ContentionRecorder::set_labels(const ContentionLabels& labels) noexcept {
  label_locks_.store(labels.locks, std::memory_order_relaxed);
  label_holders_.store(labels.holders, std::memory_order_relaxed);
  update();
}

ContentionKey ContentionRecorder::block_key(const Wait& wait, StackId stack, StackId holder) const noexcept {
  ContentionKey key = key_of(stack, wait.kind);
  if (label_locks_.load(std::memory_order_relaxed)) key.lock = wait.object;
  if (is_telling_holders()) key.holder = holder;
  return key;
}

Draw ContentionRecorder::before_lock_wait(const Wait& wait) const noexcept {
  constexpr Nanos kLong = 1'000'000;
  Draw draw;
  // A walk looks by system calls whether memory is there.
  if (!may_ask_kernel()) return draw;
  if (const std::int64_t rate = block_rate(); rate > 0) {
    draw = draw_for(rate);
    if (draw.beyond < kLong) draw.stack = stack_of(wait);
    // Recorded whatever its length.
    if (draw.beyond == 0 && !is_telling_holders())
      draw.row = find_row(block_buckets, block_key(wait, draw.stack, kNoStack));
  }
  draw.jitter = static_cast<std::uint32_t>(random_below(std::uint64_t{1} << 32));
  draw.is_looker = is_watching_locks() && random_below(LockWaiters::kLookersPerEntered) == 0;
  return draw;
}

// Go's blockevent(): a wait shorter than the rate counts rate/length times when it is chosen, so that what is
// expected of it is one wait of its length.
void ContentionRecorder::on_wait(const Wait& wait, Nanos duration, StackId holder,
                                 const Draw& drawn) noexcept {
  const std::int64_t rate = block_rate();
  if (rate <= 0 || !may_ask_kernel()) return;
  // Input that was there: nothing else tells it from input that was waited for.
  constexpr Nanos kShortestInput = 10'000;
  if (wait.kind == WaitKind::kIo && duration < kShortestInput) return;
  const std::int64_t length = std::max<std::int64_t>(duration, 1);
  const Draw draw = drawn.rate > 0 ? drawn : draw_for(rate);
  std::uint64_t count_units = kUnit;
  std::int64_t nanos = length;
  if (length < draw.rate) {
    if (length <= draw.beyond) return;
    count_units = kUnit * static_cast<std::uint64_t>(draw.rate) / static_cast<std::uint64_t>(length);
    nanos = draw.rate;
  }
  BucketId row = draw.row;
  if (row == 0) {
    const StackId stack = draw.stack != kNoStack ? draw.stack : stack_of(wait);
    row = find_row(block_buckets, block_key(wait, stack, holder));
  }
  record(block_buckets, row, count_units, static_cast<std::uint64_t>(nanos));
}

Charge ContentionRecorder::before_unlock(const Wait& unlock) const noexcept {
  const LockWaiters::Taken taken = lock_waiters.take_over(
      unlock.object, now,
      is_telling_holders() ? LockWaiters::Releaser{holder_stack, &unlock} : LockWaiters::Releaser{});
  const std::int64_t fraction = mutex_fraction();
  if (taken.nanos == 0 || fraction <= 0 || !may_ask_kernel()) return {};
  if (fraction > 1 && random_below(static_cast<std::uint64_t>(fraction)) != 0) return {};
  return {taken.nanos, fraction, taken.unlocks};
}

void ContentionRecorder::on_unlock(const Wait& unlock, const Charge& charge) noexcept {
  const auto weight = static_cast<std::uint64_t>(charge.fraction);
  ContentionKey key = key_of(stack_of(unlock), unlock.kind);
  if (label_locks_.load(std::memory_order_relaxed)) {
    key.lock = unlock.object;
    if (threads.waiters_may_claim()) key.thread = current_thread_name();
  }
  record(mutex_buckets, find_row(mutex_buckets, key),
         kUnit * weight * static_cast<std::uint64_t>(charge.unlocks),
         static_cast<std::uint64_t>(charge.nanos) * weight);
}

void ContentionRecorder::on_wake(const Wait& wake) noexcept {
  static_cast<void>(lock_waiters.take_over(LockWaiters::wakeable(wake.object), now, {holder_stack, &wake}));
}

}  // namespace profagent::safe
