#include "agent/safe/heap_recorder.h"

#include <limits>
#include <type_traits>
#include <utility>

#include "agent/safe/counters.h"
#include "agent/safe/events.h"
#include "agent/safe/heap_buckets.h"
#include "agent/safe/random.h"
#include "agent/safe/record_stack.h"
#include "agent/safe/sampling.h"
#include "agent/safe/threads.h"

namespace profagent::safe {

constinit HeapRecorder heap_recorder;
static_assert(std::is_trivially_destructible_v<HeapRecorder>);

namespace {

// While sampling is off, how much a thread allocates before it looks again whether it is on now.
constexpr std::uint64_t kLookAgainAfter = std::uint64_t{1} << 20;
// Not below zero, which means borrowed.
constexpr std::uint64_t kNever = std::numeric_limits<std::int64_t>::max();

// At rate 1 every byte is chosen: each allocation but an empty one borrows.
std::uint64_t draw_distance(std::uint64_t& random, std::uint64_t rate) {
  return rate == 1 ? 0 : next_sample_distance(random, rate);
}

bool has_borrowed() {
  return static_cast<std::int64_t>(thread_state.bytes_until_sample) < 0;
}

StackId stack_of(const StartFrame& caller) {
  // No larger than asked for: threads with small stacks and handlers on small alternate stacks allocate, too.
  const std::size_t depth = recorded_depth();
  auto* pcs = static_cast<Pc*>(__builtin_alloca(depth * sizeof(Pc)));
  return record_stack(caller, {pcs, depth});
}

}  // namespace

void HeapRecorder::set_rate(std::uint64_t rate) noexcept {
  rate_.store(rate, std::memory_order_relaxed);
  // This thread has allocated before it came here (the loader and libc do), and was told to look again later.
  // Not when a distance was drawn: cutting it short would be a bias.
  if (thread_state.sample_rate == 0) thread_state.bytes_until_sample = 0;
}

void HeapRecorder::look_soon() noexcept {
  ThreadState& thread = thread_state;
  // A counter below zero: is_due() has just borrowed, so the slow path is next anyway.
  if (thread.put_aside == 0 && !has_borrowed())
    thread.put_aside = std::exchange(thread.bytes_until_sample, 0);
}

std::uint64_t HeapRecorder::wants(std::size_t size) noexcept {
  ThreadState& thread = thread_state;
  if (thread.put_aside != 0) {
    thread.bytes_until_sample = std::exchange(thread.put_aside, 0);
    if (!is_due(size)) return 0;
  }
  if (thread.is_agent) {
    thread.bytes_until_sample = kNever;
    return 0;
  }
  const std::uint64_t rate = this->rate();
  // To keep a sample may ask the kernel for memory; a filter that was about to come may be refused.
  if (rate == 0 || !may_ask_kernel()) {
    thread.bytes_until_sample = kLookAgainAfter;
    thread.sample_rate = 0;
    return 0;
  }
  std::uint64_t sampled_at = thread.sample_rate;
  if (sampled_at == 0) {
    // This thread's first allocation, or the first since sampling was turned on: nothing was drawn yet.
    if (thread.random == 0) thread.random = make_seed(&thread);
    const std::uint64_t distance = draw_distance(thread.random, rate);
    thread.sample_rate = rate;
    if (distance >= size) {
      thread.bytes_until_sample = distance - size;
      return 0;
    }
    sampled_at = rate;
  }
  thread.bytes_until_sample = draw_distance(thread.random, rate);
  thread.sample_rate = rate;
  return sampled_at;
}

void HeapRecorder::pass_over(std::size_t size) noexcept {
  if (thread_state.is_composed) {
    thread_state.bytes_until_sample = 0;
    return;
  }
  if (wants(size) != 0) count(counters.dropped_nested);
}

void HeapRecorder::on_alloc(const void* block, std::size_t size, std::uint64_t rate,
                            const StartFrame& caller) noexcept {
  if (!LiveTable::accepts(block)) return count(counters.dropped_address);
  threads.current();
  const StackId stack = stack_of(caller);
  const BucketId bucket = heap_buckets.find_or_add({stack, size, rate});
  if (bucket == 0) return count(counters.dropped_bucket_table_full);
  // A record that is still there is of a block whose free went past our hooks (RTLD_DEEPBIND, an allocator's
  // own entry points): the address belongs to a new block now, and an address must not stand in the table
  // twice.
  if (heap_filter.may_contain(block)) on_free(block);
  if (!heap_filter.add(block)) return count(counters.dropped_contended);
  if (!live_table.insert(block, bucket)) {
    heap_filter.remove(block);
    return count(counters.dropped_live_table_full);
  }
  heap_buckets[bucket].allocations.fetch_add(1, std::memory_order_release);  // pairs with for_each()
}

BucketId HeapRecorder::take(const void* block) noexcept {
  // Either wants() follows and draws anew, or a handler's siglongjmp went by between is_due() and wants(),
  // and this thread would not be sampled for the next 2^64 bytes.
  if (has_borrowed()) thread_state.bytes_until_sample = 0;
  const BucketId bucket = live_table.remove(block);
  if (bucket != 0) heap_filter.remove(block);
  return bucket;
}

void HeapRecorder::let_go(BucketId taken) noexcept {
  if (taken == 0) return;
  // Release: who sees this free sees its allocation counted.
  heap_buckets[taken].frees.fetch_add(1, std::memory_order_release);
}

void HeapRecorder::put_back(const void* block, BucketId taken) noexcept {
  if (taken == 0) return;
  if (heap_filter.add(block)) {
    if (live_table.insert(block, taken)) return;
    heap_filter.remove(block);
  }
  // It can no longer be followed, so it must not count as live for ever.
  let_go(taken);
  count(counters.dropped_live_table_full);
}

void HeapRecorder::on_free(const void* block) noexcept {
  let_go(take(block));
}

}  // namespace profagent::safe
