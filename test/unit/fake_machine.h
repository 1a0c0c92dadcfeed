// A folder with what the kernel tells of memory and control groups, as some other machine's would.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "test/support/temp_dir.h"

namespace profagent::service::test {

inline constexpr std::uint64_t kMega = std::uint64_t{1} << 20U;

class FakeMachine {
 public:
  FakeMachine() = default;
  explicit FakeMachine(std::uint64_t available) { set_available(available); }

  [[nodiscard]] const std::string& root() const { return dir_.path(); }

  void write(const std::string& file, const std::string& text) const {
    const std::filesystem::path path = root() + file;
    std::filesystem::create_directories(path.parent_path());
    profagent::test::write_text(path, text);
  }
  void set_available(std::uint64_t bytes) const {
    write("/proc/meminfo", "MemTotal:       24684096 kB\nMemFree:               1 kB\nMemAvailable:   " +
                               std::to_string(bytes / 1024) + " kB\nBuffers:               1 kB\n");
  }
  // The lines of /proc/PID/cgroup.
  void set_groups(const std::string& lines) const { write("/proc/thread-self/cgroup", lines); }
  // One of the unified hierarchy, "/" or "/a/b"; "max": no limit.
  void add_group(const std::string& path, const std::string& max, const std::string& high,
                 std::uint64_t current, std::uint64_t unused_cache = 0) const {
    const std::string folder = "/sys/fs/cgroup" + (path == "/" ? "" : path);
    write(folder + "/cgroup.procs", "");
    write(folder + "/memory.max", max + "\n");
    write(folder + "/memory.high", high + "\n");
    write(folder + "/memory.current", std::to_string(current) + "\n");
    write(folder + "/memory.stat",
          "anon 1\nfile 2\nactive_file 3\ninactive_file " + std::to_string(unused_cache) + "\nslab 4\n");
  }
  // One of the memory controller's own hierarchy.
  void add_old_group(const std::string& path, std::uint64_t limit, std::uint64_t usage,
                     std::uint64_t unused_cache = 0) const {
    const std::string folder = "/sys/fs/cgroup/memory" + (path == "/" ? "" : path);
    write(folder + "/cgroup.procs", "");
    write(folder + "/memory.limit_in_bytes", std::to_string(limit) + "\n");
    write(folder + "/memory.usage_in_bytes", std::to_string(usage) + "\n");
    // Without "total_", of this group alone.
    write(folder + "/memory.stat",
          "cache 1\ninactive_file 7\ntotal_inactive_file " + std::to_string(unused_cache) + "\n");
  }

 private:
  profagent::test::TempDir dir_;
};

}  // namespace profagent::service::test
