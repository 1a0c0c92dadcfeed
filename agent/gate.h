// Keeps a passage shut while somebody must have nobody in it.
#pragma once

#include <atomic>
#include <cstdint>

namespace profagent {

// Any thread; without a wait and without the kernel. Who keeps it shut waits as it likes until nobody is
// inside. One word says both, so nobody enters once it is shut, and who finds nobody inside sees all that was
// done there. All is sequentially consistent: who leaves a note, tries and is refused is seen by who opens
// and then looks for notes.
class Gate {
 public:
  // False while it is shut. Else leave() must follow.
  [[nodiscard]] bool enter() noexcept {
    std::uint64_t present = state_.load();
    do {
      if (present >= kShut) return false;
    } while (!state_.compare_exchange_weak(present, present + 1));
    return true;
  }
  void leave() noexcept { state_.fetch_sub(1); }

  // Several may; it is open again when all have opened it.
  void shut() noexcept { state_.fetch_add(kShut); }
  void open() noexcept { state_.fetch_sub(kShut); }
  [[nodiscard]] bool is_empty() const noexcept { return state_.load() % kShut == 0; }

  // In the child of a fork: whoever was inside, or kept it shut, is not here.
  void reset() noexcept { state_.store(0, std::memory_order_relaxed); }

 private:
  static constexpr std::uint64_t kShut = std::uint64_t{1} << 32;
  // How many keep it shut in the upper half, how many are inside in the lower.
  std::atomic<std::uint64_t> state_{0};
};

}  // namespace profagent
