// What the agent reads in debug information, compared with what LLVM's symbolizer reads in the same files.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <random>
#include <sstream>

#include <catch2/catch.hpp>

#include "agent/service/source_lines.h"
#include "agent/service/symbols.h"
#include "test/conformance/loaded_file.h"
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

std::string without_version(const std::string& name) {
  return name.substr(0, name.find('@'));
}

struct Symbols {
  std::vector<std::uint64_t> addresses;                        // inside of functions, ascending
  std::map<std::uint64_t, std::vector<std::string>> at_start;  // all names of a function
};

// `count` addresses, by chance, of all functions in the symbol table: the same in every run.
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
    symbols.at_start[start].push_back(without_version(name));
    if (sizes.emplace(start, size).second) all += size;
  }
  REQUIRE(all != 0);
  constexpr std::uint64_t kSeed = 7;
  std::mt19937_64 random(kSeed);
  std::vector<std::uint64_t> places(count);
  for (std::uint64_t& place : places) place = random() % all;
  std::sort(places.begin(), places.end());
  std::uint64_t passed = 0;
  auto place = places.begin();
  for (const auto& [start, size] : sizes) {
    for (; place != places.end() && *place < passed + size; ++place)
      symbols.addresses.push_back(start + (*place - passed));
    passed += size;
  }
  return symbols;
}

std::vector<Lines> by_llvm(const std::string& file, const std::vector<std::uint64_t>& addresses) {
  std::ostringstream input;
  for (const std::uint64_t address : addresses) input << "0x" << std::hex << address << '\n';
  const Outcome outcome =
      run({"llvm-symbolizer-14", "--obj=" + file, "--functions=linkage", "--no-demangle", "--inlines"}, {},
          input.str(), std::chrono::seconds(300));
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
    lines.push_back(
        {without_version(function), place.substr(0, line), place.substr(line + 1, column - line - 1)});
  }
  REQUIRE(all.size() == addresses.size());
  return all;
}

// As a profile shows them: the function that has the frame has the symbol table's name.
std::vector<Lines> by_agent(const LoadedFile& loaded, const std::vector<std::uint64_t>& addresses) {
  const ModuleSet modules = loaded.modules();
  const std::vector<std::uintptr_t> pcs = LoadedFile::pcs(addresses);
  SourceLines lines({.helper = agent_path()});
  LineAnswer answer;
  // A busy machine may need more than one request's patience.
  REQUIRE(eventually([&] {
    answer = lines.find(modules, pcs);
    return answer.problem.empty();
  }));
  Symbolizer symbolizer;
  const std::vector<ResolvedPc> names = symbolizer.resolve(modules, pcs);
  std::vector<Lines> all;
  for (std::size_t i = 0; i < pcs.size(); ++i) {
    Lines& known = all.emplace_back();
    for (const SourceLine line : answer.chains[i])
      known.push_back({std::string(line.function), std::string(line.file), std::to_string(line.line)});
    if (!known.empty() && names[i].found) known.back().function = names[i].symbol->system_name;
  }
  return all;
}

// The outermost is any of those that the symbol table has at one address.
bool same_function(const Line& ours, const Line& theirs, bool is_outermost, const Symbols& symbols,
                   std::uint64_t address) {
  if (ours.function == theirs.function) return true;
  if (!is_outermost) return false;
  const auto& names = std::prev(symbols.at_start.upper_bound(address))->second;
  const auto is_one = [&](const Line& line) {
    return std::ranges::find(names, line.function) != names.end();
  };
  return is_one(ours) && is_one(theirs);
}

// LLVM puts a compiler's working folder in front of all folders that are not absolute, also of those that it
// was told to call "./…" (agent/helper/line_folders.cc), which gives places that never were.
bool same_file(const Line& ours, const Line& theirs) {
  std::string_view file = theirs.file;
  const std::size_t mapped = file.find("/./");
  if (!file.starts_with('/') && mapped != file.npos && !file.substr(mapped).starts_with("/./.."))
    file.remove_prefix(mapped + 1);
  return std::filesystem::path(ours.file).lexically_normal() ==
         std::filesystem::path(file).lexically_normal();
}

struct Share {
  std::size_t all = 0;
  std::size_t equal = 0;
};

void print(const char* who, const Lines& lines) {
  std::printf("    %s:", who);
  for (const Line& line : lines)
    std::printf(" %s %s:%s;", line.function.c_str(), line.file.c_str(), line.line.c_str());
  std::printf("\n");
}

Share compare(const std::string& file, std::size_t count) {
  const LoadedFile loaded(file);
  const std::string debug_file = loaded.debug_file();
  REQUIRE_FALSE(debug_file.empty());
  const Symbols symbols = sample(debug_file, count);
  const auto theirs = by_llvm(debug_file, symbols.addresses);
  const auto ours = by_agent(loaded, symbols.addresses);
  Share share;
  std::size_t different_file = 0;
  std::size_t unknown = 0;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    // Parts of the file without debug information; for the symbol table LLVM names a file at times.
    if (ours[i].empty() && theirs[i].size() == 1 && theirs[i][0].line == "0") {
      ++unknown;
      continue;
    }
    ++share.all;
    bool is_equal = ours[i].size() == theirs[i].size();
    bool is_same_file = true;
    for (std::size_t depth = 0; is_equal && depth < ours[i].size(); ++depth) {
      const Line& a = ours[i][depth];
      const Line& b = theirs[i][depth];
      is_equal =
          a.line == b.line && same_function(a, b, depth + 1 == ours[i].size(), symbols, symbols.addresses[i]);
      is_same_file = is_same_file && same_file(a, b);
    }
    if (is_equal && is_same_file) {
      ++share.equal;
      continue;
    }
    if (is_equal) ++different_file;
    if (std::getenv("SHOW_DIFFERENCES") != nullptr) {
      std::printf("  %lx\n", symbols.addresses[i]);
      print("ours", ours[i]);
      print("LLVM", theirs[i]);
    }
  }
  std::printf("%s: %zu addresses, %zu equal (%.2f %%), %zu more but for the file; %zu unknown to both\n",
              std::filesystem::path(file).filename().c_str(), share.all, share.equal,
              100.0 * static_cast<double>(share.equal) / static_cast<double>(share.all), different_file,
              unknown);
  return share;
}

void check(const std::vector<std::string>& files, std::size_t count_of_each, std::size_t least) {
  Share sum;
  for (const std::string& file : files) {
    const Share share = compare(file, count_of_each);
    sum.all += share.all;
    sum.equal += share.equal;
  }
  CHECK(sum.all >= least);
  CHECK(static_cast<double>(sum.equal) >= 0.99 * static_cast<double>(sum.all));
}

}  // namespace

TEST_CASE("functions, files, lines and inlining are those of LLVM's symbolizer", "[V12]") {
  const std::string victims = std::getenv("VICTIM_DIR");
  check({agent_path(), victims + "/liblines_lto.so", victims + "/bad_helper"}, 2000, 3000);
}

// C and C++ of Debian (scripts/setup.sh long), in separate files that are found by build id and by name,
// packed and not; and LLVM's own way to write DWARF 5.
TEST_CASE("so they are in ten thousand places of real programs", "[V12][.long]") {
  const TempDir dir;
  const std::string by_clang = dir.file("libclang.so");
  const std::string root = std::getenv("SOURCE_ROOT");
  Arguments compile = {"clang++-14", "-std=c++20",     "-O2",       "-g", "-shared",
                       "-fPIC",      "-Wl,--build-id", "-I" + root, "-o", by_clang};
  for (const auto& entry : std::filesystem::directory_iterator(root + "/agent/service")) {
    const std::string name = entry.path().filename();
    if (name.ends_with(".cc") &&
        (name.starts_with("elf") || name.starts_with("line_") || name.starts_with("modules") ||
         name.starts_with("perf_map") || name.starts_with("symbols")))
      compile.push_back(entry.path());
  }
  REQUIRE(run(compile, {}, {}, std::chrono::seconds(300)).ok());
  check({agent_path(), "/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/libmonosgen-2.0.so.1",
         "/usr/lib/libipopt.so.1", "/usr/lib/x86_64-linux-gnu/librados.so.2",
         "/usr/lib/x86_64-linux-gnu/libgsl.so.27", by_clang},
        1700, 10000);
}
