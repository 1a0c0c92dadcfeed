// The last walks of a few threads. Consecutive walks of a thread mostly share their outer frames; a new walk
// that arrives at a remembered frame takes over the frames above it, after it compared every stack slot that
// led to them.
//
// Why that is exact. The step from a frame to its caller is a function of the frame's (pc, sp, bp), of the
// rule of its pc, and, for a plain rule, of two slots: the return address below the CFA and, when the frame
// saved it, the bp. When the arriving frame equals a remembered one and both slots hold what they held, the
// caller equals the remembered caller; and so on, outwards. Rules depend on the pc only, while no module
// comes or goes (rule_generation). A saved bp is compared only where it matters: where some frame further out
// uses it before it is restored again. Where it does not, it may differ, and the remembered bp is as dead as
// the real one. Other steps (expressions, signal frames, frame pointers, the end) are "opaque": never taken
// over, but walked again. The frames are hypotheses, proved at each use, so it does not matter whose walk it
// was nor whether all of it was proved last time. Loads go from the leaf outwards, each behind the comparison
// before it: a slot is only touched when its frame is known to be live.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "agent/safe/rule_cache.h"
#include "agent/safe/types.h"

namespace profagent::safe {

// K of the hash polynomial (see hash_stack()), and its seed.
inline constexpr std::uint64_t kHashFactor = 0x9e3779b97f4a7c15;
inline constexpr std::uint64_t kHashSeed = 0x8c1f3a5d7b2e9641;

struct WalkFrame {
  Pc pc = 0;  // as the rule was looked up
  std::uintptr_t sp = 0;
  std::uintptr_t bp = 0;
  PackedRule rule;
  // Set by prepare():
  bool bp_matters = false;        // the frames further out depend on this bp
  bool compare_saved_bp = false;  // the slot of this frame decides a bp that matters
  std::uint16_t run_end = 0;      // the first opaque or outermost frame from here on
  std::uint64_t hash = 0;         // of the stack from this frame outwards, unfinished
};

// A walk's frames lie leaf first in [leaf, end) of one of two buffers, while the next walk is written into
// the other.
class WalkCache {
 public:
  // Room below the leaf, for walks that continue into a remembered one.
  static constexpr std::uint32_t kFirst = 128;
  static constexpr std::uint32_t kRoom = kFirst + kMaxStackDepth;

  // Never waits. False: another thread, or the walk that this signal handler interrupted, is in here.
  bool try_lock() noexcept {
    // Pairs with the release in unlock(): the frames of the last owner are visible.
    return locked_.load(std::memory_order_relaxed) == 0 &&
           locked_.exchange(1, std::memory_order_acquire) == 0;
  }
  void unlock() noexcept { locked_.store(0, std::memory_order_release); }

  [[nodiscard]] WalkFrame* frames() noexcept { return buffers_[active_]; }
  [[nodiscard]] WalkFrame* scratch() noexcept { return buffers_[1 - active_] + kFirst; }
  [[nodiscard]] std::uint32_t leaf() const noexcept { return leaf_; }
  [[nodiscard]] std::uint32_t end() const noexcept { return end_; }

  void forget() noexcept {
    leaf_ = end_ = prepared_ = 0;
    renew();
  }
  // Forgets everything when rules changed since.
  void check_generation(std::uint32_t generation) noexcept {
    if (generation_ != generation) forget();
    generation_ = generation;
  }
  // Works out what the frames from `index` on need to be taken over.
  void prepare(std::uint32_t index) noexcept;
  // The scratch frames are the walk now.
  void replace(std::uint32_t count) noexcept;
  // The walk is `count` scratch frames followed by the remembered frames from `joined` on.
  void put_before(std::uint32_t joined, std::uint32_t count) noexcept;

  // The interned id of the remembered walk, as far as its first `depth` frames.
  [[nodiscard]] StackId id(std::uint32_t depth) const noexcept { return depth == id_depth_ ? id_ : kNoStack; }
  void set_id(StackId id, std::uint32_t depth) noexcept {
    id_ = id;
    id_depth_ = depth;
  }
  [[nodiscard]] std::uint32_t walk_number() const noexcept { return walk_number_; }

 private:
  friend void unlock_all_walk_caches() noexcept;
  void renew() noexcept {
    ++walk_number_;
    id_ = kNoStack;
  }

  std::atomic<std::uint32_t> locked_;
  std::uint32_t generation_;
  std::uint32_t walk_number_;
  std::uint32_t active_;
  std::uint32_t leaf_;
  std::uint32_t end_;
  std::uint32_t prepared_;  // frames from here to the end are prepared
  StackId id_;
  std::uint32_t id_depth_;
  WalkFrame buffers_[2][kRoom];
};

// A fixed pool, mapped on first use and touched as used: about 12 KiB for each thread that walks at the same
// time, however many threads there are. Threads share a cache by chance; that costs speed only.
struct LeasedCache {
  WalkCache* cache = nullptr;
  std::uint32_t index = 0;
};
LeasedCache lease_walk_cache() noexcept;
// The same one again. Null when it is busy.
WalkCache* lease_walk_cache(std::uint32_t index) noexcept;
void unlock_all_walk_caches() noexcept;

}  // namespace profagent::safe
