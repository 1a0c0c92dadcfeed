// What long works on our thread must know of it. Set by the service while the thread serves; in tests, where
// there is none, it is as if nobody asked it to stop and nothing were shared.
#pragma once

#include <atomic>
#include <cstdint>

namespace profagent::service {

struct OwnThread {
  const std::atomic<bool>* stop = nullptr;
  bool has_own_fd_table = true;
  // System call filters that the program was loaded under; those know what programs do. Negative: not known.
  std::int64_t filters_at_load = -1;

  [[nodiscard]] bool is_to_stop() const noexcept {
    return stop != nullptr && stop->load(std::memory_order_acquire);
  }
};

inline constinit OwnThread own_thread;

}  // namespace profagent::service
