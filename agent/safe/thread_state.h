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
  std::uintptr_t section = 0;  // where on the stack the outermost open Section is; 0: none
  bool is_composed = false;    // what is allocated inside of that section is counted by its owner
  bool is_agent = false;       // the agent's own thread: never sampled
  bool is_filtered = false;    // under a system call filter of the program's, or made by such a thread
  // Calls in progress that change rights: our thread must not be there meanwhile.
  std::uint8_t keeps_agent_out = 0;
};

static_assert(std::is_trivially_destructible_v<ThreadState>);
static_assert(sizeof(ThreadState) <= 64);

[[gnu::visibility("hidden")]] extern constinit thread_local ThreadState thread_state
    [[gnu::tls_model("initial-exec")]];

// Says whether this thread is inside the agent already: a signal handler, or an allocator that calls itself.
//
// It may be left without its destructor, by a handler's siglongjmp. So the thread remembers no count but a
// place on the stack, and a section that opens at the same place or further out knows that the old one was
// left. The doubtful stays closed: other stacks, and what lies far apart. A hook's section is where its
// caller has its stack pointer, so that all calls of one function agree; others are where they lie, one at a
// time in a function.
class Section {
 public:
  Section() noexcept : Section(reinterpret_cast<std::uintptr_t>(this)) {}
  explicit Section(std::uintptr_t place) noexcept : outermost_(enter(place)) {
    // For a signal handler on this thread: what is guarded stays inside.
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  ~Section() {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    if (outermost_) thread_state.section = 0;
  }
  Section(const Section&) = delete;
  Section& operator=(const Section&) = delete;
  [[nodiscard]] bool is_outermost() const noexcept { return outermost_; }
  // Whether one is open; one that was left, as seen from `place`, is closed first.
  [[nodiscard]] static bool is_open(std::uintptr_t place) noexcept {
    if (thread_state.section == 0) [[likely]]
      return false;
    if (!was_left(thread_state.section, place)) return true;
    thread_state.is_composed = false;
    thread_state.section = 0;
    return false;
  }

 private:
  static bool enter(std::uintptr_t here) noexcept {
    if (thread_state.section != 0) [[unlikely]] {
      if (!was_left(thread_state.section, here)) return false;
      thread_state.is_composed = false;
    }
    thread_state.section = here;
    return true;
  }
  static bool was_left(std::uintptr_t open, std::uintptr_t here) noexcept;

  bool outermost_;
};

// Guards our own work on the program's threads: true when this thread is not inside the agent already, and
// keeps errno. Never held across a call that can block.
class SafeSection {
 public:
  SafeSection() noexcept : saved_errno_(*errno_location()) {}
  explicit SafeSection(std::uintptr_t place) noexcept : saved_errno_(*errno_location()), section_(place) {}
  ~SafeSection() { *errno_location() = saved_errno_; }
  SafeSection(const SafeSection&) = delete;
  SafeSection& operator=(const SafeSection&) = delete;
  explicit operator bool() const noexcept { return section_.is_outermost() && !thread_state.is_agent; }

 private:
  static int* errno_location() noexcept;

  int saved_errno_;
  Section section_;
};

}  // namespace profagent::safe
