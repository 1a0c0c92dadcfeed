// Whether a helper process may run, and how large it may get: not where it could harm the program, and not
// again and again.
//
// The helper lives in the program's control groups. Where one of them is full, the kernel may end all that is
// in it (memory.oom.group, systemd's OOMPolicy=stop), whoever took the last page. So the helper gets a
// quarter of what is left when it starts, and ends when nearly nothing is left. The files that it maps do not
// count: nobody writes to their pages, and the kernel takes them back before it ends anybody.
#pragma once

#include <cstdint>
#include <string>

#include "agent/safe/clock.h"
#include "agent/service/line_helper.h"
#include "agent/service/modules.h"

namespace profagent::service {

struct HelperOptions {
  std::string library;    // the file to run; empty: the one that this code was loaded from
  std::string room_root;  // see memory_room()
  double pause_seconds;   // after a helper could not be started or has crashed
};

class LineHelperRules {
 public:
  static constexpr std::uint64_t kMostMemory = std::uint64_t{2} << 30U;
  // With less there is none. Small programs need less (2 MiB), a library of 44 MB with its debug
  // information 48.
  static constexpr std::uint64_t kLeastMemory = std::uint64_t{64} << 20U;

  explicit LineHelperRules(HelperOptions options) : options_(std::move(options)) {}

  // Sees to it that `helper` runs, and does so at no cost to the program. False when it does not; problem()
  // says why.
  bool provide(LineHelper& helper, const ModuleSet& modules, MonotonicNanos deadline);

  // The helper is gone, and why: the second half of a sentence.
  void pause(std::string problem);
  [[nodiscard]] bool is_pausing() const noexcept { return safe::monotonic_now() < start_again_at_; }

  // As the second half of a sentence.
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }
  // What the last helper may take, if that is less than usual, in words; else empty.
  [[nodiscard]] std::string tight_memory() const;

 private:
  [[nodiscard]] std::string start(LineHelper& helper, const ModuleSet& modules, MonotonicNanos deadline);

  HelperOptions options_;
  std::string problem_;
  MonotonicNanos start_again_at_ = 0;
  std::uint64_t memory_ = 0;
};

}  // namespace profagent::service
