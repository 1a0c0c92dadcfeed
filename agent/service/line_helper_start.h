// How the helper process comes to life, seen from the kernel: the program that we are in must not notice. It
// gets no SIGCHLD, and no wait of its finds a child.
//
// An executed program always signals its end to its parent (execve sets the signal back to SIGCHLD). So the
// parent of the helper is not the program but a process between them, which is cloned from our thread with no
// signal and shares our memory: as after vfork, nothing is copied. It ends as soon as the helper runs, which
// then is an orphan like any daemon. Where orphans come to the program itself (process 1 of a container,
// PR_SET_CHILD_SUBREAPER), it stays instead, without CPU time or descriptors, until the helper has ended.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include <sys/types.h>

namespace profagent::service {

class HelperStart {
 public:
  // Sets off the execution of `library` with --symbolize and `socket` as its standard input; nothing else of
  // ours or of the program's reaches it. It gets `memory` bytes at most, the files that it maps not counted.
  // Returns 0, or an errno.
  int begin(int library, int socket, std::uint64_t memory) noexcept;

  // Why the execution failed: an errno; 0 as long as it has not.
  [[nodiscard]] int error() const noexcept { return shared_ == nullptr ? 0 : shared_->error.load(); }

  // Whether the process between stays as long as the helper.
  [[nodiscard]] bool stays() const noexcept { return shared_ != nullptr && shared_->stays; }

  // True when the process between is gone and reaped, so that begin() may be called again.
  [[nodiscard]] bool is_over() noexcept;

  // Ends the helper if it is still known by us.
  void kill() noexcept;

  HelperStart() = default;
  HelperStart(const HelperStart&) = delete;
  HelperStart& operator=(const HelperStart&) = delete;
  // What the process between may still use is left to it.
  ~HelperStart();

 private:
  static constexpr std::size_t kStackBytes = 16384;
  // Used by three processes.
  struct Shared {
    int library = -1;
    int socket = -1;
    pid_t program = 0;
    std::uint64_t memory = 0;
    bool stays = false;
    std::atomic<int> error{0};
    std::atomic<pid_t> helper{0};
    alignas(16) std::byte stack[kStackBytes];         // of the process between
    alignas(16) std::byte helper_stack[kStackBytes];  // until it executes
  };

  [[noreturn]] static void run_between(Shared* shared) noexcept;
  [[noreturn]] static void run_helper(Shared* shared) noexcept;

  std::unique_ptr<Shared> shared_;
  pid_t between_ = 0;
};

}  // namespace profagent::service
