#include "agent/service/futex_wait.h"

#include <array>
#include <charconv>

#include <linux/futex.h>
#include <sys/syscall.h>

namespace profagent::service {

namespace {

bool waits(std::uint64_t operation) {
  switch (operation & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
      return true;
    default:
      return false;
  }
}

}  // namespace

std::optional<FutexWait> parse_futex_wait(std::string_view line) {
  constexpr std::string_view kPrefix = "0x";
  // "NUMBER ARGUMENT… SP PC", all but the first in hexadecimal.
  std::int64_t number = 0;
  const char* const end = line.data() + line.size();
  auto [at, error] = std::from_chars(line.data(), end, number);
  if (error != std::errc() || number != SYS_futex) return std::nullopt;
  enum Field : std::size_t { kAddress, kOperation, kValue, kTimeout, kSp = 6, kPc, kFields };
  std::array<std::uint64_t, kFields> fields{};
  for (std::uint64_t& field : fields) {
    std::string_view rest(at, static_cast<std::size_t>(end - at));
    if (!rest.starts_with(' ')) return std::nullopt;
    rest.remove_prefix(1);
    if (!rest.starts_with(kPrefix)) return std::nullopt;
    rest.remove_prefix(kPrefix.size());
    const auto result = std::from_chars(rest.data(), end, field, 16);
    if (result.ec != std::errc()) return std::nullopt;
    at = result.ptr;
  }
  if (!waits(fields[kOperation])) return std::nullopt;
  return FutexWait{.address = fields[kAddress],
                   .value = static_cast<std::uint32_t>(fields[kValue]),
                   .is_timed = fields[kTimeout] != 0,
                   .sp = fields[kSp],
                   .pc = fields[kPc]};
}

}  // namespace profagent::service
