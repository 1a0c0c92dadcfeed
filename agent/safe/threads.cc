#include "agent/safe/threads.h"

#include <algorithm>
#include <iterator>
#include <type_traits>

#include "agent/safe/counters.h"
#include "agent/safe/cpu_signal.h"
#include "agent/safe/events.h"
#include "agent/safe/lazy.h"
#include "agent/safe/sys.h"
#include "agent/safe/thread_state.h"

namespace profagent::safe {

constinit Threads threads;
static_assert(std::is_trivially_destructible_v<Threads>);

namespace {

constexpr long kNoSuchProcess = -3;
constexpr int kMaxTries = 8;

// Returns what a mark for a small alternate stack was.
bool counted(bool before, bool after) noexcept {
  if (before != after) events.small_signal_stacks.fetch_add(after ? 1 : -1);
  return before;
}

}  // namespace

ThreadSlot* Threads::claim(pid_t tid) noexcept {
  // A slot that was freed first. One pass over the slots given out so far; only while there are free ones.
  const std::size_t end = used_.load(std::memory_order_acquire);
  for (std::size_t i = 0; free_.load(std::memory_order_relaxed) > 0 && i < end && i < kMaxThreads; ++i) {
    ThreadSlot* slab = slabs_[i / kSlabSize].load(std::memory_order_acquire);
    pid_t expected = 0;
    if (slab != nullptr &&
        slab[i % kSlabSize].tid.compare_exchange_strong(expected, tid, std::memory_order_acq_rel)) {
      // A slot between used_ and its first claim also reads 0; the count is a hint and must not wrap.
      std::size_t free = free_.load(std::memory_order_relaxed);
      for (int attempt = 0; attempt < kMaxTries && free > 0; ++attempt) {
        if (free_.compare_exchange_weak(free, free - 1, std::memory_order_relaxed)) break;
      }
      return &slab[i % kSlabSize];
    }
  }
  // Or a new one. Another thread may find it as a free slot before we take it: then the next one.
  for (int attempt = 0; attempt < kMaxTries; ++attempt) {
    // The slab before the number: without memory no number is used up.
    const std::size_t likely = used_.load(std::memory_order_relaxed);
    if (likely >= kMaxThreads || lazy_array(slabs_[likely / kSlabSize], kSlabSize) == nullptr) break;
    const std::size_t index = used_.fetch_add(1, std::memory_order_acq_rel);
    if (index >= kMaxThreads) break;
    ThreadSlot* slab = lazy_array(slabs_[index / kSlabSize], kSlabSize);
    if (slab == nullptr) break;
    pid_t expected = 0;
    if (slab[index % kSlabSize].tid.compare_exchange_strong(expected, tid, std::memory_order_acq_rel)) {
      return &slab[index % kSlabSize];
    }
  }
  return nullptr;
}

ThreadSlot* Threads::current() noexcept {
  if (thread_state.slot != nullptr) return thread_state.slot;
  if (may_ask_kernel()) thread_state.slot = claim(sys::gettid());
  if (thread_state.slot == nullptr) count(counters.threads_not_registered);
  return thread_state.slot;
}

// Only its thread changes a mark, and who comes after it. Nothing is stored in vain: in the child of a fork
// it would copy the page.
bool Threads::mark(std::atomic<bool>& mark, bool value) noexcept {
  if (mark.load(std::memory_order_seq_cst) == value) return value;
  const bool before = mark.exchange(value, std::memory_order_seq_cst);
  if (before != value) marks_.fetch_add(1, std::memory_order_seq_cst);
  return before;
}

bool Threads::mark_without_slot(pid_t tid, bool value) noexcept {
  if (all_are_marked_.load(std::memory_order_seq_cst)) return value;
  for (std::atomic<pid_t>& place : marked_without_slot_) {
    if (place.load(std::memory_order_seq_cst) != tid) continue;
    if (value) return true;
    place.store(0, std::memory_order_seq_cst);
    marks_.fetch_add(1, std::memory_order_seq_cst);
    return true;
  }
  if (!value) return false;
  for (std::atomic<pid_t>& place : marked_without_slot_) {
    pid_t free = 0;
    if (!place.compare_exchange_strong(free, tid, std::memory_order_seq_cst)) continue;
    marks_.fetch_add(1, std::memory_order_seq_cst);
    return false;
  }
  return mark(all_are_marked_, true);
}

bool Threads::is_marked_without_slot(pid_t tid) const noexcept {
  if (all_are_marked_.load(std::memory_order_seq_cst)) return true;
  return std::any_of(std::begin(marked_without_slot_), std::end(marked_without_slot_),
                     [tid](const auto& place) { return place.load(std::memory_order_seq_cst) == tid; });
}

bool Threads::mark_small_stack(bool value) noexcept {
  ThreadSlot* const slot = current();
  bool before = slot != nullptr && counted(mark(slot->small_signal_stack, value), value);
  if (!may_ask_kernel()) return before;
  // It may have had no slot when it became small.
  const pid_t tid = sys::gettid();
  before = is_marked_without_slot(tid) || before;
  if (slot == nullptr || !value) counted(mark_without_slot(tid, value), value);
  return before;
}

// For a thread that is gone.
void Threads::unmark(ThreadSlot& slot) noexcept {
  counted(mark(slot.small_signal_stack, false), false);
  mark(slot.takes_cpu_signal, false);
}

void Threads::reclaim() noexcept {
  const pid_t process = sys::getpid();
  for_each([&](ThreadSlot& slot) {
    pid_t tid = slot.tid.load(std::memory_order_acquire);
    if (tid == 0 || sys::call(SYS_tgkill, process, tid, 0) != kNoSuchProcess) return;
    // Only we free slots, and a thread that is gone does not change its own: the exchange cannot fail.
    unmark(slot);
    slot.wait.withdraw();
    if (slot.tid.compare_exchange_strong(tid, 0, std::memory_order_acq_rel)) {
      free_.fetch_add(1, std::memory_order_relaxed);
    }
  });
  for (const std::atomic<pid_t>& place : marked_without_slot_) {
    const pid_t tid = place.load(std::memory_order_seq_cst);
    if (tid != 0 && sys::call(SYS_tgkill, process, tid, 0) == kNoSuchProcess)
      counted(mark_without_slot(tid, false), false);
  }
}

void Threads::on_fork_child() noexcept {
  if (!may_ask_kernel()) thread_state.slot = nullptr;
  if (thread_state.slot != nullptr) thread_state.slot->tid.store(sys::gettid(), std::memory_order_release);
  for_each([this](ThreadSlot& slot) {
    if (&slot != thread_state.slot) unmark(slot);
  });
  for (std::atomic<pid_t>& place : marked_without_slot_) place.store(0, std::memory_order_relaxed);
  all_are_marked_.store(false, std::memory_order_relaxed);
  // What was copied of others' marks and of their number is of different moments. This thread's mark is
  // right, and where it has none it may have been one without a slot, under another number: the kernel knows.
  stack_t stack{};
  const bool had_mark =
      thread_state.slot != nullptr && thread_state.slot->small_signal_stack.load(std::memory_order_relaxed);
  const bool is_small =
      had_mark || (may_ask_kernel() && sys::call(SYS_sigaltstack, 0, reinterpret_cast<long>(&stack)) == 0 &&
                   is_too_small(stack));
  if (thread_state.slot != nullptr) {
    mark(thread_state.slot->small_signal_stack, is_small);
  } else if (is_small) {
    mark_without_slot(sys::gettid(), true);
  }
  events.small_signal_stacks = static_cast<int>(is_small);
}

}  // namespace profagent::safe
