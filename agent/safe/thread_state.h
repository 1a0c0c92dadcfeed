// What the ground floor keeps for the calling thread in thread-local storage: a few words, initial-exec, so
// one %fs access and never an allocation. Zero is a valid state (hooks run before any constructor).
#pragma once

#include <atomic>
#include <cstdint>
#include <type_traits>

namespace profagent::safe {

struct ThreadSlot;

struct ThreadState {
  // Bytes that may still be allocated before malloc's slow path is entered; unsigned, so that one subtract
  // and its borrow decide. 0 at birth: a thread's first allocation sets it up.
  std::uint64_t bytes_until_sample = 0;
  std::uint64_t put_aside = 0;    // the rest of that distance, while look_soon() has it at 0
  std::uint64_t sample_rate = 0;  // at which that distance was drawn; 0: none was
  std::uint64_t random = 0;       // 0: not seeded yet
  ThreadSlot* slot = nullptr;
  std::uint32_t depth = 0;  // of SafeSection
  bool is_agent = false;    // the agent's own thread: never sampled
};

static_assert(std::is_trivially_destructible_v<ThreadState>);
static_assert(sizeof(ThreadState) <= 64);

[[gnu::visibility("hidden")]] extern constinit thread_local ThreadState thread_state
    [[gnu::tls_model("initial-exec")]];

// Guards our own work on the program's threads: true when this thread is not inside the agent already (a
// signal handler, or an allocator that calls itself), and keeps errno. Never held across a call that can
// block.
class SafeSection {
 public:
  SafeSection() noexcept : saved_errno_(*errno_location()), outermost_(thread_state.depth++ == 0) {
    // For a signal handler on this thread: what is guarded stays inside.
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  ~SafeSection() {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    --thread_state.depth;
    *errno_location() = saved_errno_;
  }
  SafeSection(const SafeSection&) = delete;
  SafeSection& operator=(const SafeSection&) = delete;
  explicit operator bool() const noexcept { return outermost_ && !thread_state.is_agent; }

 private:
  static int* errno_location() noexcept;

  int saved_errno_;
  bool outermost_;
};

}  // namespace profagent::safe
