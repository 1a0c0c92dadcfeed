// From the handle of a thread (pthread_t) to the thread, if there is one. On our thread only.
//
// glibc's handle is the address of the thread's descriptor, which keeps the tid where the kernel zeroes it
// when the thread ends (CLONE_CHILD_CLEARTID). The same place in every descriptor; the kernel tells us where
// our own is.
#pragma once

#include <cstddef>
#include <cstdint>

#include <sys/types.h>

namespace profagent::service {

class ThreadHandles {
 public:
  ThreadHandles();

  // False: the kernel does not tell (it was built without CONFIG_CHECKPOINT_RESTORE), and every handle looks
  // as if its thread had ended.
  [[nodiscard]] bool are_readable() const noexcept { return tid_offset_ != 0; }

  // 0: the thread has ended. Any number is allowed as handle: nothing faults.
  [[nodiscard]] pid_t tid_of(std::uintptr_t handle) const;

 private:
  std::size_t tid_offset_ = 0;
};

}  // namespace profagent::service
