#include "agent/service/process_start.h"

#include <algorithm>
#include <charconv>
#include <ctime>

#include <sys/auxv.h>

#include "agent/safe/clock.h"
#include "agent/service/elf_bytes.h"

namespace profagent::service {

std::optional<std::uint64_t> parse_start_ticks(std::string_view stat) {
  // The second field is the name, which may have spaces and parentheses in it.
  constexpr int kFieldsBetween = 20;
  const std::size_t name_end = stat.rfind(')');
  if (name_end == std::string_view::npos) return std::nullopt;
  stat.remove_prefix(name_end + 1);
  for (int i = 0; i < kFieldsBetween; ++i) {
    const std::size_t space = stat.find(' ');
    if (space == std::string_view::npos) return std::nullopt;
    stat.remove_prefix(space + 1);
  }
  std::uint64_t ticks = 0;
  if (std::from_chars(stat.data(), stat.data() + stat.size(), ticks).ec != std::errc()) return std::nullopt;
  return ticks;
}

std::optional<std::int64_t> process_start() {
  constexpr std::size_t kMaxText = 4096;
  // The main thread's, which is there as long as the process.
  const auto file = FileBytes::open("/proc/self/stat", Links::kFollow);
  const auto ticks = file ? parse_start_ticks(file->text(0, kMaxText)) : std::nullopt;
  const auto per_second = static_cast<std::int64_t>(getauxval(AT_CLKTCK));
  if (!ticks || per_second <= 0) return std::nullopt;
  const std::int64_t since_boot = static_cast<std::int64_t>(*ticks) * (safe::kNanosPerSecond / per_second);
  return safe::now_by(CLOCK_REALTIME) - (safe::now_by(CLOCK_BOOTTIME) - since_boot);
}

}  // namespace profagent::service
