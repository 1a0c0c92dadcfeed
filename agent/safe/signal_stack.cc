#include "agent/safe/signal_stack.h"

#include <atomic>
#include <cstdint>

#include "agent/safe/sys.h"

namespace profagent::safe {

namespace {

// More than processors that could be in a handler at the same moment, and some threads that were preempted
// there. When they do not do, the sample comes with the thread's next signal.
constexpr std::size_t kStacks = 64;
constexpr std::size_t kMaxTries = 16;

struct alignas(16) SignalStack {
  char bytes[kSignalStackBytes];
};

constinit std::atomic<SignalStack*> stacks = nullptr;
constinit std::atomic<bool> taken[kStacks] = {};

// Nothing is pushed on the present stack: the compiler, which does not see the call, may have used the red
// zone.
[[gnu::noinline]] void call_on(char* top, void (*function)(void*) noexcept, void* argument) noexcept {
  asm volatile(
      "movq %%rsp, %%rbx\n\t"
      "movq %[top], %%rsp\n\t"
      "callq *%[function]\n\t"
      "movq %%rbx, %%rsp"
      : "+D"(argument), [top] "+S"(top), [function] "+d"(function)
      :
      : "rax", "rbx", "rcx", "r8", "r9", "r10", "r11", "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4",
        "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

}  // namespace

bool prepare_signal_stacks() noexcept {
  // Not the arena's: a profile of a program that has filled that one must still be possible.
  SignalStack* present = stacks.load(std::memory_order_acquire);
  if (present != nullptr) return true;
  auto* fresh = static_cast<SignalStack*>(sys::map_pages(kStacks * sizeof(SignalStack)));
  if (fresh == nullptr) return false;
  if (!stacks.compare_exchange_strong(present, fresh, std::memory_order_acq_rel))
    sys::unmap_pages(fresh, kStacks * sizeof(SignalStack));
  return true;
}

bool run_on_signal_stack(void (*function)(void*) noexcept, void* argument) noexcept {
  // Acquire pairs with the release of the one that mapped them.
  SignalStack* all = stacks.load(std::memory_order_acquire);
  if (all == nullptr) return false;
  // Different threads begin at different places: their own stacks lie apart.
  const std::size_t begin = (reinterpret_cast<std::uintptr_t>(argument) >> 12) * 0x9e3779b97f4a7c15 >> 58;
  for (std::size_t attempt = 0; attempt < kMaxTries; ++attempt) {
    const std::size_t index = (begin + attempt) % kStacks;
    // Acquire and release: the next owner sees the stack as the last one left it. Nothing on it means
    // anything by then, but no store of the old one may come late.
    if (taken[index].exchange(true, std::memory_order_acquire)) continue;
    call_on(all[index].bytes + kSignalStackBytes, function, argument);
    taken[index].store(false, std::memory_order_release);
    return true;
  }
  return false;
}

void free_signal_stacks_after_fork() noexcept {
  for (std::atomic<bool>& one : taken) one.store(false, std::memory_order_relaxed);
}

}  // namespace profagent::safe
