// Names of code that was made at run time, from the map that its maker writes for perf: /tmp/perf-PID.map
// with lines "START SIZE NAME", numbers in hexadecimal. Node writes one with --perf-basic-prof, Python with
// -X perf, Java when asked (jcmd PID Compiler.perfmap). On our thread only.
//
// Anybody may put a file in /tmp: only a regular one is believed, that belongs to our user or root, and that
// was written since this process began: an earlier one may have had its number. What is in it may be
// anything. A line takes the place of earlier ones for the addresses that it covers, so the file is read from
// its end, and no further than until all is named; of a longer one only the last kLongestPerfMap bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/service/elf_bytes.h"
#include "agent/service/symbol.h"

namespace profagent::service {

struct PerfMapLine {
  std::uintptr_t start = 0;
  std::uintptr_t limit = 0;
  std::string_view name;
};

// False when the text is not such a line.
[[nodiscard]] bool parse_perf_map_line(std::string_view text, PerfMapLine& line);

inline constexpr std::uint64_t kLongestPerfMap = std::uint64_t{64} << 20U;
// What is longer is cut.
inline constexpr std::size_t kLongestPerfMapLine = 4096;

// The well-formed lines among the first `size` bytes, the last one first, until `visit` returns false. What
// stands behind the last newline is still being written, and left out.
void read_perf_map(const Bytes& file, std::uint64_t size,
                   const std::function<bool(const PerfMapLine&)>& visit);

class PerfMap {
 public:
  static constexpr std::size_t kMaxCached = 65536;

  // Empty: the map of this process, whichever it is when find() is called.
  explicit PerfMap(std::string path = {}) : path_(std::move(path)) {}

  struct Function {
    std::shared_ptr<const Symbol> symbol;  // null: not in the map
    std::uintptr_t start = 0;
  };
  // One answer for each of `pcs`, in their order; any order, repetitions allowed. The file is read again only
  // when it has changed or other addresses are asked.
  [[nodiscard]] std::vector<Function> find(std::span<const std::uintptr_t> pcs);

  void clear() noexcept;

  // Why the last find() knew nothing although there is a map, in one sentence; else empty.
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }

  // So far; see find().
  [[nodiscard]] std::uint64_t reads() const noexcept { return reads_; }

 private:
  void search(const FileBytes& file, std::vector<std::uintptr_t> pcs);

  std::string path_;
  std::string problem_;
  FileIdentity identity_;  // of what known_ is from
  std::unordered_map<std::uintptr_t, Function> known_;
  std::uint64_t reads_ = 0;
};

}  // namespace profagent::service
