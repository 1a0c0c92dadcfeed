// A thread that does one thing over and over until this is destroyed.
#pragma once

#include <atomic>
#include <functional>
#include <thread>
#include <utility>

#include "agent/safe/sys.h"

namespace profagent {

class Runner {
 public:
  explicit Runner(std::function<void()> step = [] {}) : step_(std::move(step)), thread_([this] { run(); }) {
    while (tid_ == 0) std::this_thread::yield();
  }
  ~Runner() {
    stop_ = true;
    thread_.join();
  }
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;
  [[nodiscard]] pid_t tid() const { return tid_; }

 private:
  void run() {
    tid_ = safe::sys::gettid();
    while (!stop_) step_();
  }
  std::function<void()> step_;
  std::atomic<pid_t> tid_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace profagent
