// A thread that runs until this is destroyed.
#pragma once

#include <atomic>
#include <thread>

#include "agent/safe/sys.h"

namespace profagent {

class Runner {
 public:
  Runner() : thread_([this] { run(); }) {
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
    while (!stop_) {
    }
  }
  std::atomic<pid_t> tid_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace profagent
