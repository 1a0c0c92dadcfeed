#include "agent/safe/walk_cache.h"

#include <cstring>
#include <type_traits>

#include "agent/safe/sys.h"

namespace profagent::safe {

namespace {

constexpr std::uint32_t kPoolBits = 6;
constexpr std::uint32_t kPoolSize = 1U << kPoolBits;

struct Pool {
  WalkCache caches[kPoolSize];
};
constinit std::atomic<Pool*> the_pool = nullptr;
static_assert(std::is_trivially_destructible_v<WalkFrame>);

Pool* pool() noexcept {
  // Relaxed: fresh pages are zero for everybody, there is nothing else to publish.
  Pool* pool = the_pool.load(std::memory_order_relaxed);
  if (pool != nullptr) return pool;
  void* pages = sys::map_pages(sizeof(Pool));
  if (pages == nullptr) return nullptr;
  if (the_pool.compare_exchange_strong(pool, static_cast<Pool*>(pages), std::memory_order_relaxed)) {
    return static_cast<Pool*>(pages);
  }
  sys::unmap_pages(pages, sizeof(Pool));
  return pool;
}

// The thread pointer: unique among living threads, and free to read.
std::uint32_t thread_index() noexcept {
  std::uintptr_t thread = 0;
  asm("mov %%fs:0, %0" : "=r"(thread));
  return static_cast<std::uint32_t>(thread * kHashFactor >> (64U - kPoolBits));
}

}  // namespace

void WalkCache::prepare(std::uint32_t index) noexcept {
  WalkFrame* all = frames();
  while (prepared_ > index) {
    WalkFrame& frame = all[--prepared_];
    const bool outermost = prepared_ + 1 == end_;
    const bool outer_matters = outermost || all[prepared_ + 1].bp_matters;
    const bool saves_bp = frame.rule.bp_distance() != 0;
    switch (frame.rule.kind()) {
      case RuleKind::kFromSp:
        frame.bp_matters = outer_matters && !saves_bp;
        break;
      case RuleKind::kEnd:
        frame.bp_matters = false;
        break;
      default:
        frame.bp_matters = true;
    }
    frame.compare_saved_bp = outer_matters && saves_bp;
    const bool passable = !outermost && frame.rule.is_plain();
    frame.run_end = passable ? all[prepared_ + 1].run_end : static_cast<std::uint16_t>(prepared_);
    frame.hash = (outermost ? kHashSeed : all[prepared_ + 1].hash) * kHashFactor + frame.pc;
  }
}

void WalkCache::replace(std::uint32_t count) noexcept {
  active_ = 1 - active_;
  leaf_ = kFirst;
  end_ = prepared_ = kFirst + count;
  renew();
}

void WalkCache::put_before(std::uint32_t joined, std::uint32_t count) noexcept {
  if (count > joined) return forget();
  if (count == 0 && joined == leaf_) return;
  leaf_ = joined - count;
  std::memcpy(frames() + leaf_, scratch(), count * sizeof(WalkFrame));
  if (prepared_ < joined) prepared_ = joined;
  renew();
}

LeasedCache lease_walk_cache() noexcept {
  Pool* all = pool();
  if (all == nullptr) return {};
  const std::uint32_t index = thread_index();
  // The second choice serves a signal handler that interrupted a walk.
  for (const std::uint32_t choice : {index, index ^ 1U}) {
    if (all->caches[choice].try_lock()) return {&all->caches[choice], choice};
  }
  return {};
}

WalkCache* lease_walk_cache(std::uint32_t index) noexcept {
  Pool* all = pool();
  if (all == nullptr || index >= kPoolSize || !all->caches[index].try_lock()) return nullptr;
  return &all->caches[index];
}

void unlock_all_walk_caches() noexcept {
  Pool* all = the_pool.load(std::memory_order_relaxed);
  if (all == nullptr) return;
  for (WalkCache& cache : all->caches) {
    if (cache.locked_.load(std::memory_order_relaxed) == 0) continue;
    // Its owner was cut off in the middle.
    cache.forget();
    cache.unlock();
  }
}

}  // namespace profagent::safe
