// A helper program of the test's own, and the machine that it is told to be on.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "agent/service/source_lines.h"
#include "test/unit/fake_machine.h"
#include "test/unit/symbols_victim.h"

namespace profagent::service::test {

// The agent's library in a folder of the test's own, so that its processes are found by it.
class OwnHelper {
 public:
  explicit OwnHelper(const std::string& name = "libprofagent.so", const std::string& original = agent())
      : path_(folder_ / name) {
    std::filesystem::copy_file(original, path_);
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  // With memory enough, whatever this machine has.
  [[nodiscard]] LineOptions options() const {
    return {.helper = path_, .debug_root = "/nonexistent", .room_root = machine_.root()};
  }
  [[nodiscard]] const FakeMachine& machine() const { return machine_; }

  [[nodiscard]] std::vector<pid_t> processes() const {
    std::vector<pid_t> result;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      std::error_code error;
      const std::filesystem::path exe = std::filesystem::read_symlink(entry.path() / "exe", error);
      if (!error && exe == path_) result.push_back(std::stoi(entry.path().filename()));
    }
    return result;
  }

 private:
  static std::string agent() { return std::getenv("PROFAGENT_SO"); }
  Folder folder_;
  std::string path_;
  FakeMachine machine_{16384 * kMega};
};

inline LineOptions without_pause(const OwnHelper& helper) {
  LineOptions options = helper.options();
  options.pause_seconds = 0;
  return options;
}

// How often bad_helper was started.
inline std::size_t starts(const OwnHelper& helper) {
  return profagent::test::read_text(helper.path() + ".starts").size();
}

}  // namespace profagent::service::test
