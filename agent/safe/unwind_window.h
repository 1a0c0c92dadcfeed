// The part of the stack around a walk that is known to be readable. The walk loads directly inside it, and
// the window grows by asking the kernel page by page (185 ns each), upward only: nothing below the walk's sp
// is read.
//
// What a thread learned of its last stacks is kept in TLS, so a page is asked for once per thread. That is
// sound for frames found by call-frame rules: they are live, so their memory is. A frame found by a guess (a
// frame pointer in code without rules) may point into memory that this thread once used as a stack and gave
// back; from the first guess on a walk asks anew for every page (distrust()).
#pragma once

#include <cstddef>
#include <cstdint>

namespace profagent::safe {

// What was last read of the stack of another thread, whose memory may go away at any time: by the kernel,
// which reports instead of faulting, a piece at a time.
class StackCopy {
 public:
  // A word of it. False: it cannot be read.
  bool read_word(std::uintptr_t at, std::uintptr_t& word) noexcept;

 private:
  static constexpr std::size_t kBytes = 1024;
  std::uintptr_t begin_ = 0;
  std::size_t size_ = 0;
  alignas(8) unsigned char bytes_[kBytes];
};

class StackWindow {
 public:
  StackWindow() = default;
  // On the stack of another thread: nothing is loaded directly, and nothing is learned.
  explicit StackWindow(StackCopy& copy) noexcept : copy_(&copy), trusting_(false) {}

  // The first byte that is not known to be readable. Direct loads are fine in [sp given to enter(), end()).
  [[nodiscard]] std::uintptr_t end() const noexcept { return end_; }

  // Starts at `sp`, with what the thread knows. False: sp's page cannot be read.
  bool enter(std::uintptr_t sp) noexcept;
  // Extends the window to `to` without holes.
  bool grow(std::uintptr_t to) noexcept;
  // Extends the window so that [low, to) lies in it. It grows without holes, but for a huge frame. False: it
  // cannot.
  bool reach(std::uintptr_t low, std::uintptr_t to) noexcept;
  // Forgets what was known before this walk.
  void distrust() noexcept;
  [[nodiscard]] bool trusting() const noexcept { return trusting_; }
  // Keeps what was learned for the thread's next walk.
  void save() const noexcept;

  // A word anywhere: in the window a load, elsewhere by the kernel.
  bool read_word(std::uintptr_t at, std::uintptr_t& word) noexcept;

 private:
  bool probe(std::uintptr_t page) noexcept;
  bool enter_known(std::uintptr_t sp, std::uint64_t known) noexcept;

  StackCopy* copy_ = nullptr;
  std::uintptr_t begin_ = 0;
  std::uintptr_t end_ = 0;
  // Bounds the time of a walk over nonsense: 512 probes are 0.1 ms.
  std::uint32_t probes_left_ = 512;
  bool trusting_ = true;
};

}  // namespace profagent::safe
