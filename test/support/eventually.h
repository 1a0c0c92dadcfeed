// Waits for what must become true, however busy the machine is.
#pragma once

#include <chrono>
#include <thread>

namespace profagent::test {

inline constexpr std::chrono::seconds kPatience{60};  // only guards against hangs

inline void pause_a_little() {
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

// Polls until `condition` holds; false when patience ended first.
template <typename Condition>
bool eventually(Condition condition, std::chrono::milliseconds patience = kPatience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    pause_a_little();
  }
  return true;
}

}  // namespace profagent::test
