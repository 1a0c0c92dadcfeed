#include "agent/service/perf_map.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <utility>

#include "agent/safe/sys.h"
#include "agent/service/demangle.h"
#include "agent/service/process_start.h"

namespace profagent::service {

namespace {

namespace sys = safe::sys;

constexpr std::size_t kChunk = std::size_t{64} << 10U;

// Takes a hexadecimal number, with or without 0x, and the spaces behind it from the front of `text`.
bool take_number(std::string_view& text, std::uintptr_t& number) {
  if (text.starts_with("0x") || text.starts_with("0X")) text.remove_prefix(2);
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number, 16);
  if (error != std::errc() || rest == end || *rest != ' ') return false;
  text.remove_prefix(static_cast<std::size_t>(rest - text.data()));
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  return true;
}

bool may_be_believed(const FileIdentity& identity) {
  return identity.owner == 0 || identity.owner == static_cast<std::uint64_t>(sys::call(SYS_geteuid));
}

// Both clocks are read when they tick; file systems may know only every second one.
constexpr std::int64_t kCoarseness = 2'000'000'000;

bool is_older_than_process(const FileIdentity& identity) {
  const auto begin = process_start();
  return begin && identity.modified_nanos < *begin - kCoarseness;
}

// Numbers 0 … size-1, from which some are taken away.
class Remaining {
 public:
  explicit Remaining(std::size_t size) : next_(size + 1) { std::iota(next_.begin(), next_.end(), 0); }

  // The first one that is left and not below `number`; size when there is none.
  [[nodiscard]] std::size_t from(std::size_t number) {
    while (next_[number] != number) {
      next_[number] = next_[next_[number]];
      number = next_[number];
    }
    return number;
  }
  void take(std::size_t number) { next_[number] = number + 1; }

 private:
  std::vector<std::size_t> next_;
};

}  // namespace

bool parse_perf_map_line(std::string_view text, PerfMapLine& line) {
  std::uintptr_t size = 0;
  if (!take_number(text, line.start) || !take_number(text, size) || text.empty()) return false;
  line.name = text;
  return size != 0 && !__builtin_add_overflow(line.start, size, &line.limit);
}

void read_perf_map(const Bytes& file, std::uint64_t size,
                   const std::function<bool(const PerfMapLine&)>& visit) {
  const std::uint64_t stop = size > kLongestPerfMap ? size - kLongestPerfMap : 0;
  std::vector<char> chunk(kChunk);
  std::string line;       // its end, while its begin has not been read
  bool is_whole = false;  // there was a newline behind it
  const auto visit_line = [&] {
    PerfMapLine parsed;
    return !is_whole || !parse_perf_map_line(line, parsed) || visit(parsed);
  };
  for (std::uint64_t begin = size; begin > stop;) {
    const std::span<char> part(chunk.data(), std::min<std::uint64_t>(chunk.size(), begin - stop));
    begin -= part.size();
    if (file.read(begin, std::as_writable_bytes(part)) != part.size()) return;
    for (std::string_view rest(part.data(), part.size());;) {
      const std::size_t newline = rest.rfind('\n');
      const std::size_t line_begin = newline == std::string_view::npos ? 0 : newline + 1;
      line.insert(0, rest.substr(line_begin));
      if (line.size() > kLongestPerfMapLine) line.resize(kLongestPerfMapLine);
      if (newline == std::string_view::npos) break;
      if (!visit_line()) return;
      line.clear();
      is_whole = true;
      rest = rest.substr(0, newline);
    }
  }
  if (stop == 0) visit_line();
}

std::vector<PerfMap::Function> PerfMap::find(std::span<const std::uintptr_t> pcs) {
  std::vector<Function> functions(pcs.size());
  problem_.clear();
  if (pcs.empty()) return functions;
  const std::string path = path_.empty() ? "/tmp/perf-" + std::to_string(sys::getpid()) + ".map" : path_;
  const auto file = FileBytes::open(path.c_str(), Links::kRefuse);
  if (!file || !may_be_believed(file->identity())) {
    clear();
    return functions;
  }
  if (is_older_than_process(file->identity())) {
    clear();
    problem_ = "No names of code that was made at run time: " + path + " is older than this process.";
    return functions;
  }
  if (file->identity() != identity_ || known_.size() > kMaxCached) clear();
  identity_ = file->identity();

  std::vector<std::uintptr_t> unknown;
  for (const std::uintptr_t pc : pcs) {
    if (!known_.contains(pc)) unknown.push_back(pc);
  }
  if (!unknown.empty()) search(*file, std::move(unknown));
  std::transform(pcs.begin(), pcs.end(), functions.begin(),
                 [this](std::uintptr_t pc) { return known_.at(pc); });
  return functions;
}

void PerfMap::search(const FileBytes& file, std::vector<std::uintptr_t> pcs) {
  ++reads_;
  std::sort(pcs.begin(), pcs.end());
  pcs.erase(std::unique(pcs.begin(), pcs.end()), pcs.end());
  for (const std::uintptr_t pc : pcs) known_[pc];

  // What has a name is passed over at once, however many lines cover it.
  Remaining remaining(pcs.size());
  std::size_t left = pcs.size();
  read_perf_map(file, file.identity().size, [&](const PerfMapLine& line) {
    Function function{.symbol = nullptr, .start = line.start};
    const auto first = std::lower_bound(pcs.begin(), pcs.end(), line.start);
    for (std::size_t i = remaining.from(static_cast<std::size_t>(first - pcs.begin()));
         i < pcs.size() && pcs[i] < line.limit; i = remaining.from(i)) {
      if (!function.symbol)
        function.symbol = std::make_shared<const Symbol>(Symbol{demangle(line.name), std::string(line.name)});
      known_[pcs[i]] = function;
      remaining.take(i);
      --left;
    }
    return left != 0;
  });
}

void PerfMap::clear() noexcept {
  known_.clear();
  identity_ = {};
}

}  // namespace profagent::service
