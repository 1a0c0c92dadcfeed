#include "agent/service/memory_room.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <span>
#include <string_view>

#include "agent/service/elf_bytes.h"

namespace profagent::service {

namespace {

// Of any of the files: the lists of figures have about two kilobytes.
constexpr std::size_t kMaxText = 65536;

std::string read_text(const std::string& path) {
  const auto file = FileBytes::open(path.c_str(), Links::kFollow);
  return file ? file->text(0, kMaxText) : std::string();
}

std::optional<std::uint64_t> number_at(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  return number;
}

// What stands behind `name` at the begin of a line.
std::optional<std::uint64_t> number_of(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    if (line.starts_with(name)) return number_at(line.substr(name.size()));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
  }
  return std::nullopt;
}

// How the two generations of control groups name the same things.
struct Generation {
  std::string_view folder;                   // where it is mounted
  std::span<const std::string_view> limits;  // "max", or a huge number, where there is none
  std::string_view usage;
  std::string_view unused_cache;  // in memory.stat; of the groups below, too
  // Of a line "NUMBER:CONTROLLERS:PATH" in /proc/PID/cgroup.
  bool (*is_of)(std::string_view controllers);
};

bool has_word(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const std::string_view first = list.substr(0, list.find(','));
    if (first == word) return true;
    list.remove_prefix(std::min(first.size() + 1, list.size()));
  }
  return false;
}

// Beyond memory.high the kernel slows everybody down, beyond memory.max it ends somebody.
constexpr std::string_view kLimits[] = {"memory.max", "memory.high"};
constexpr std::string_view kOldLimits[] = {"memory.limit_in_bytes"};
constexpr Generation kGenerations[] = {
    {"/sys/fs/cgroup", kLimits, "memory.current", "inactive_file ",
     [](std::string_view controllers) { return controllers.empty(); }},
    {"/sys/fs/cgroup/memory", kOldLimits, "memory.usage_in_bytes", "total_inactive_file ",
     [](std::string_view controllers) { return has_word(controllers, "memory"); }}};

// The path of the process below a generation's folder; "/" at least. Nothing where it has none.
std::optional<std::string_view> path_in(const Generation& generation, std::string_view groups) {
  while (!groups.empty()) {
    const std::string_view line = groups.substr(0, groups.find('\n'));
    groups.remove_prefix(std::min(line.size() + 1, groups.size()));
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos || !generation.is_of(line.substr(first + 1, second - first - 1)))
      continue;
    const std::string_view path = line.substr(second + 1);
    // Outside of what this process may see, only the outermost group can be reached.
    return path.find("/..") == std::string_view::npos ? path : "/";
  }
  return std::nullopt;
}

// Nothing when the group has no limit, or is not there.
std::optional<std::uint64_t> room_of_group(const Generation& generation, const std::string& folder) {
  std::optional<std::uint64_t> limit;
  for (const std::string_view name : generation.limits) {
    const auto number = number_at(read_text(folder + std::string(name)));
    if (number) limit = std::min(limit.value_or(*number), *number);
  }
  if (!limit) return std::nullopt;
  const auto usage = number_at(read_text(folder + std::string(generation.usage)));
  if (!usage) return std::nullopt;
  const std::uint64_t cache =
      number_of(read_text(folder + "memory.stat"), generation.unused_cache).value_or(0);
  const std::uint64_t in_use = *usage - std::min(*usage, cache);
  return *limit - std::min(*limit, in_use);
}

}  // namespace

MemoryRoom memory_room(const std::string& root) {
  constexpr std::uint64_t kKilobyte = 1024;
  MemoryRoom least{.bytes = ~std::uint64_t{0}};
  const auto take = [&least](std::uint64_t bytes, MemoryRoom::Of of) {
    if (bytes < least.bytes) least = {.bytes = bytes, .of = of};
  };
  const auto available = number_of(read_text(root + "/proc/meminfo"), "MemAvailable:");
  if (available) take(*available * kKilobyte, MemoryRoom::Of::kMachine);

  const std::string groups = read_text(root + "/proc/thread-self/cgroup");
  bool are_groups_seen = groups.empty();
  for (const Generation& generation : kGenerations) {
    const auto path = path_in(generation, groups);
    if (!path) continue;
    const std::string top = root + std::string(generation.folder);
    // Every group has it, also where nothing is limited. Where both generations are in use, one has the
    // memory.
    are_groups_seen |= FileBytes::identify((top + "/cgroup.procs").c_str()).has_value();
    // A limit of a group is one of all groups in it.
    for (std::string_view rest = *path;;) {
      const std::string_view below = rest == "/" ? std::string_view() : rest;
      if (const auto room = room_of_group(generation, top + std::string(below) + "/"))
        take(*room, MemoryRoom::Of::kGroup);
      if (below.empty()) break;
      rest = rest.substr(0, std::min(rest.rfind('/'), rest.size() - 1));
    }
  }
  if (!available || !are_groups_seen) take(kUnknownRoom, MemoryRoom::Of::kUnknown);
  return least;
}

}  // namespace profagent::service
