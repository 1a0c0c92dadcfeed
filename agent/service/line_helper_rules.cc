#include "agent/service/line_helper_rules.h"

#include <algorithm>
#include <memory>
#include <utility>

#include <sys/prctl.h>

#include "agent/safe/clock.h"
#include "agent/safe/sys.h"
#include "agent/safe/thread_status.h"
#include "agent/service/debug_files.h"
#include "agent/service/memory_room.h"
#include "agent/service/own_thread.h"

namespace profagent::service {

namespace {

// The part of the room that a helper may take: the program grows, too.
constexpr std::uint64_t kShare = 4;

// Why no helper may be tried; null: nothing is against it.
const char* objection() {
  if (!own_thread.has_own_fd_table) return "the kernel refuses the agent a descriptor table of its own";
  // What a program installs is there to find, and to end, programs that start others.
  constexpr const char* kUnknown = "it is not known whose system call filter is in force";
  safe::ThreadStatus status;
  if (!safe::read_thread_status(safe::sys::gettid(), status))
    return safe::sys::call(SYS_prctl, PR_GET_SECCOMP) == 0 ? nullptr : kUnknown;
  if (status.filters == 0) return nullptr;
  if (status.filters < 0 || own_thread.filters_at_load < 0) return kUnknown;
  if (status.filters > own_thread.filters_at_load) return "the program has installed a system call filter";
  return nullptr;
}

// The image that this code is in.
const Image* own_image(const ModuleSet& modules) {
  const auto own = reinterpret_cast<std::uintptr_t>(&objection);
  const Module* const module = modules.find(own);
  return module == nullptr ? nullptr : modules.image_of(*module);
}

std::string megabytes(std::uint64_t bytes) {
  return std::to_string(bytes >> 20U) + " MiB";
}

std::string too_little(const MemoryRoom& room) {
  return std::string(room.of == MemoryRoom::Of::kGroup ? "its control group" : "the machine") + " has only " +
         megabytes(room.bytes) + " of memory left";
}

}  // namespace

bool LineHelperRules::provide(LineHelper& helper, const ModuleSet& modules, MonotonicNanos deadline) {
  if (helper.is_running()) {
    const MemoryRoom room = memory_room(options_.room_root);
    if (room.bytes >= kLeastMemory) return true;
    // Others need what it has.
    helper.end();
    pause(too_little(room));
    return false;
  }
  if (is_pausing()) return false;
  std::string problem = start(helper, modules, deadline);
  if (problem.empty()) return true;
  pause(std::move(problem));
  return false;
}

std::string LineHelperRules::start(LineHelper& helper, const ModuleSet& modules, MonotonicNanos deadline) {
  if (const char* const objects = objection(); objects != nullptr) return objects;
  const MemoryRoom room = memory_room(options_.room_root);
  memory_ = std::min(room.bytes / kShare, kMostMemory);
  if (memory_ < kLeastMemory) return too_little(room);
  const Image* const own = own_image(modules);
  const auto file = !options_.library.empty() ? FileBytes::open(options_.library.c_str(), Links::kFollow)
                    : own == nullptr          ? nullptr
                                              : open_running_file(*own);
  if (file == nullptr) return "the file of the agent's library is gone or not the same";
  return helper.start(file->descriptor(), memory_, deadline);
}

void LineHelperRules::pause(std::string problem) {
  problem_ = std::move(problem);
  start_again_at_ = safe::monotonic_now() + safe::to_nanos(options_.pause_seconds);
}

std::string LineHelperRules::tight_memory() const {
  return memory_ < kMostMemory ? " (it may take " + megabytes(memory_) + " of memory)" : std::string();
}

}  // namespace profagent::service
