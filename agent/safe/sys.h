// System calls made directly: no errno, no cancellation, no interposable function, no PLT.
// Safe on any thread and in signal handlers. Every function returns what the kernel returned; a failure is
// a negative errno value.
#pragma once

#include <cstddef>
#include <cstdint>

#include <sys/syscall.h>
#include <sys/types.h>

namespace profagent::safe::sys {

// The kernel changes rcx and r11; "memory" keeps the compiler from moving loads across the call.
[[gnu::always_inline]] inline long call(long number, long a = 0, long b = 0, long c = 0, long d = 0,
                                        long e = 0, long f = 0) noexcept {
  long result = 0;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

// As an argument.
template <typename T>
[[nodiscard]] long address_of(T* pointer) noexcept {
  return reinterpret_cast<long>(pointer);
}

[[nodiscard]] inline pid_t gettid() noexcept {
  return static_cast<pid_t>(call(SYS_gettid));
}
[[nodiscard]] inline pid_t getpid() noexcept {
  return static_cast<pid_t>(call(SYS_getpid));
}

// Blocks all signals for the calling thread, as long as it lives.
class SignalsBlocked {
 public:
  SignalsBlocked() noexcept {
    constexpr std::uint64_t kAll = ~std::uint64_t{0};
    call(SYS_rt_sigprocmask, kSetMask, reinterpret_cast<long>(&kAll), reinterpret_cast<long>(&before_),
         sizeof(before_));
  }
  ~SignalsBlocked() {
    call(SYS_rt_sigprocmask, kSetMask, reinterpret_cast<long>(&before_), 0, sizeof(before_));
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  static constexpr long kSetMask = 2;  // SIG_SETMASK
  std::uint64_t before_ = 0;
};

// The calling thread's mask, bit number - 1.
[[nodiscard]] inline std::uint64_t blocked_signals() noexcept {
  std::uint64_t mask = 0;
  call(SYS_rt_sigprocmask, 0, 0, reinterpret_cast<long>(&mask), sizeof(mask));
  return mask;
}

// These three fail in a thread that must not ask the kernel (may_ask_kernel() in events.h).
//
// Private anonymous memory: kept out of core dumps and huge pages, named "profagent". nullptr on failure.
[[nodiscard]] void* map_pages(std::size_t bytes) noexcept;
void unmap_pages(void* address, std::size_t bytes) noexcept;

// True when the page that holds `address` can be read. A probe without a fault: rt_sigprocmask copies its
// mask argument from user memory before it looks at the `how` argument, which is invalid here, so nothing
// changes (EINVAL: readable, EFAULT: not).
[[nodiscard]] bool is_readable(std::uintptr_t address) noexcept;

// Copies from this process' own memory without ever faulting (process_vm_readv on our own tid: the leader
// may be gone). Returns the bytes copied, 0 when none could be.
std::size_t read_memory(std::uintptr_t from, void* to, std::size_t bytes) noexcept;

}  // namespace profagent::safe::sys
