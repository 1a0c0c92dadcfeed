// What the helper reads in DWARF, compared with what LLVM's symbolizer reads in the same file.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <sstream>

#include <fcntl.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include "agent/service/line_helper.h"
#include "agent/service/line_helper_rules.h"
#include "test/support/victim.h"

using namespace profagent;
using namespace profagent::service;
using namespace profagent::test;

namespace {

struct Line {
  std::string function;
  std::string file;
  std::string line;
};
using Lines = std::vector<Line>;

struct Symbols {
  std::vector<std::uint64_t> addresses;                        // inside of functions
  std::map<std::uint64_t, std::vector<std::string>> at_start;  // all names of a function
};

// Of the functions in the file: `count` addresses in all, evenly.
Symbols sample(const std::string& file, std::size_t count) {
  std::istringstream table(run({"nm", "--defined-only", "--print-size", "--format=posix", file}).out);
  Symbols symbols;
  std::map<std::uint64_t, std::uint64_t> sizes;
  std::uint64_t all = 0;
  for (std::string row; std::getline(table, row);) {
    std::istringstream words(row);
    std::string name, type;
    std::uint64_t start = 0, size = 0;
    if (!(words >> name >> type >> std::hex >> start >> size) || size == 0) continue;
    if (type != "t" && type != "T" && type != "w" && type != "W") continue;
    symbols.at_start[start].push_back(name);
    if (sizes.emplace(start, size).second) all += size;
  }
  const std::uint64_t step = std::max<std::uint64_t>(1, all / count);
  std::uint64_t next = step / 2;
  std::uint64_t passed = 0;
  for (const auto& [start, size] : sizes) {
    for (; next < passed + size; next += step) symbols.addresses.push_back(start + (next - passed));
    passed += size;
  }
  return symbols;
}

std::vector<Lines> by_llvm(const std::string& file, const std::vector<std::uint64_t>& addresses) {
  std::ostringstream input;
  for (const std::uint64_t address : addresses) input << "0x" << std::hex << address << '\n';
  const Outcome outcome =
      run({"llvm-symbolizer-14", "--obj=" + file, "--functions=linkage", "--no-demangle", "--inlines"}, {},
          input.str());
  REQUIRE(outcome.ok());
  std::vector<Lines> all;
  std::istringstream output(outcome.out);
  Lines lines;
  for (std::string function, place; std::getline(output, function);) {
    if (function.empty()) {
      // One more empty line is at the end.
      if (!lines.empty()) all.push_back(std::move(lines));
      lines.clear();
      continue;
    }
    std::getline(output, place);
    const std::size_t column = place.rfind(':');
    const std::size_t line = place.rfind(':', column - 1);
    lines.push_back({function, place.substr(0, line), place.substr(line + 1, column - line - 1)});
  }
  REQUIRE(all.size() == addresses.size());
  return all;
}

std::vector<Lines> by_helper(const std::string& file, const std::vector<std::uint64_t>& addresses) {
  const auto deadline = monotonic_now() + std::chrono::nanoseconds(kPatience).count();
  const int library = open(agent_path().c_str(), O_RDONLY | O_CLOEXEC);
  const int descriptor = open(file.c_str(), O_RDONLY | O_CLOEXEC);
  LineHelper helper;
  REQUIRE(helper.start(library, LineHelperRules::kMostMemory, deadline).empty());
  std::vector<Lines> all;
  std::uint32_t id = 0;
  for (std::size_t done = 0; done < addresses.size(); done = all.size()) {
    const std::size_t batch = std::min(addresses.size() - done, line_wire::kMaxAddresses);
    const auto begin = addresses.begin() + static_cast<std::ptrdiff_t>(done);
    REQUIRE(helper.send(
        {.id = ++id, .path = file, .addresses = {begin, begin + static_cast<std::ptrdiff_t>(batch)}},
        descriptor));
    while (all.size() < done + batch) {
      line_wire::Answer answer;
      REQUIRE(helper.receive(answer, deadline) == LineHelper::Got::kAnswer);
      for (const line_wire::Chain& chain : answer.chains) {
        Lines lines;
        for (const line_wire::Frame& frame : chain)
          lines.push_back({std::string(frame.function), std::string(frame.file), std::to_string(frame.line)});
        all.push_back(std::move(lines));
      }
    }
  }
  close(library);
  close(descriptor);
  return all;
}

// LLVM takes the outermost name from the symbol table, any of those at the address. A function that is not
// known outside of its file has only its short name in DWARF.
bool same_function(const Line& ours, const Line& theirs, bool is_outermost, const Symbols& symbols,
                   std::uint64_t address) {
  if (ours.function == theirs.function) return true;
  if (!is_outermost) return false;
  const auto after = symbols.at_start.upper_bound(address);
  const auto& names = std::prev(after)->second;
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    // GCC's parts of a function are called NAME.cold and the like.
    return !ours.function.starts_with("_Z") || name.starts_with(ours.function);
  });
}

struct Share {
  std::size_t all = 0;
  std::size_t equal = 0;
  std::size_t different_file = 0;
};

Share compare(const std::string& file, std::size_t count) {
  const Symbols symbols = sample(file, count);
  const auto theirs = by_llvm(file, symbols.addresses);
  const auto ours = by_helper(file, symbols.addresses);
  Share share;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    // Where LLVM knows nothing, there is nothing to compare.
    if (theirs[i].size() == 1 && theirs[i][0].line == "0") continue;
    ++share.all;
    bool equal = ours[i].size() == theirs[i].size();
    bool same_file = true;
    for (std::size_t depth = 0; equal && depth < ours[i].size(); ++depth) {
      const Line& a = ours[i][depth];
      const Line& b = theirs[i][depth];
      equal =
          a.line == b.line && same_function(a, b, depth + 1 == ours[i].size(), symbols, symbols.addresses[i]);
      same_file = same_file && std::filesystem::path(a.file).lexically_normal() ==
                                   std::filesystem::path(b.file).lexically_normal();
    }
    if (equal && same_file) ++share.equal;
    if (equal && !same_file) ++share.different_file;
  }
  std::printf("%s: %zu addresses, %zu equal, %zu more but for the file\n",
              std::filesystem::path(file).filename().c_str(), share.all, share.equal, share.different_file);
  return share;
}

}  // namespace

TEST_CASE("functions, files, lines and inlining are those of LLVM's symbolizer", "[V12]") {
  const std::string victims = std::getenv("VICTIM_DIR");
  Share sum;
  for (const std::string& file : {agent_path(), victims + "/liblines_lto.so", victims + "/bad_helper"}) {
    const Share share = compare(file, 2000);
    sum.all += share.all;
    sum.equal += share.equal;
  }
  CHECK(sum.all > 1000);
  CHECK(static_cast<double>(sum.equal) >= 0.99 * static_cast<double>(sum.all));
}
