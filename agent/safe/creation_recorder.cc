#include "agent/safe/creation_recorder.h"

#include <type_traits>

#include "agent/safe/counters.h"
#include "agent/safe/creator_buckets.h"
#include "agent/safe/record_stack.h"

namespace profagent::safe {

constinit CreationRecorder creation_recorder;
static_assert(std::is_trivially_destructible_v<CreationRecorder>);

BucketId CreationRecorder::find_creator(const StartFrame& caller) noexcept {
  const std::size_t depth = recorded_depth();
  auto* pcs = static_cast<Pc*>(__builtin_alloca(depth * sizeof(Pc)));
  return creator_buckets.find_or_add({.stack = record_stack(caller, {pcs, depth})});
}

void CreationRecorder::on_created(BucketId creator) noexcept {
  if (creator != 0) {
    creator_buckets[creator].created.fetch_add(1, std::memory_order_release);  // pairs with is_used()
    return;
  }
  count(counters.dropped_creator_table_full);
  overflow_.fetch_add(1, std::memory_order_relaxed);
}

void CreationRecorder::forget_after_fork() noexcept {
  overflow_.store(0, std::memory_order_relaxed);
  creator_buckets.for_each_id([](BucketId id, const CreatorBucket&) {
    creator_buckets[id].created.store(0, std::memory_order_relaxed);
  });
}

}  // namespace profagent::safe
