// What source lines of large programs cost the program that asks.
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>

#include <malloc.h>
#include <catch2/catch.hpp>

#include "agent/service/source_lines.h"
#include "test/conformance/loaded_file.h"
#include "test/support/victim.h"

using namespace profagent::service;
using namespace profagent::test;

namespace {

constexpr std::size_t kKilobyte = 1024;

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// What this process has in memory that no file has.
std::size_t private_kilobytes() {
  malloc_trim(0);
  std::ifstream status("/proc/self/status");
  for (std::string row; std::getline(status, row);) {
    if (row.starts_with("RssAnon:")) return std::stoul(row.substr(sizeof("RssAnon:")));
  }
  return 0;
}

// `count` addresses of functions in a file, evenly.
std::vector<std::uint64_t> some_functions(const std::string& file, std::size_t count) {
  std::istringstream table(run({"nm", "--defined-only", "--format=posix", "--numeric-sort", file}).out);
  std::vector<std::uint64_t> all;
  for (std::string row; std::getline(table, row);) {
    std::istringstream words(row);
    std::string name, type;
    std::uint64_t address = 0;
    if (words >> name >> type >> std::hex >> address && (type == "T" || type == "t"))
      all.push_back(address + 1);
  }
  std::vector<std::uint64_t> some;
  for (std::size_t i = 0; i < count; ++i) some.push_back(all[i * all.size() / count]);
  return some;
}

std::vector<std::uintptr_t> pcs_of(const LoadedFile& loaded) {
  constexpr std::size_t kAddresses = 3000;
  return LoadedFile::pcs(some_functions(loaded.path(), kAddresses));
}

bool runs(const std::string& file) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::error_code error;
    if (std::filesystem::read_symlink(entry.path() / "exe", error) == file && !error) return true;
  }
  return false;
}

void check_memory(const LoadedFile& loaded) {
  const ModuleSet modules = loaded.modules();
  const std::vector<std::uintptr_t> pcs = pcs_of(loaded);
  const std::size_t before = private_kilobytes();
  SourceLines lines({.helper = agent_path()});
  auto begin = std::chrono::steady_clock::now();
  LineAnswer answer = lines.find(modules, pcs);
  std::printf("first: %.2f s; %s\n", seconds_since(begin), answer.problem.c_str());
  // A busy machine may need more than one request's patience.
  CHECK(eventually([&] {
    if (!answer.problem.empty()) answer = lines.find(modules, pcs);
    return answer.problem.empty();
  }));
  begin = std::chrono::steady_clock::now();
  answer = lines.find(modules, pcs);
  std::printf("again: %.3f s\n", seconds_since(begin));
  const std::size_t after = private_kilobytes();
  std::printf("memory: %zu KiB more\n", after - before);
  std::size_t known = 0;
  for (const LineChain& chain : answer.chains) known += chain.empty() ? 0 : 1;
  // The rest is from libraries without debug information.
  CHECK(known > pcs.size() * 3 / 4);
  CHECK(after - before < 2 * kKilobyte);
}

}  // namespace

TEST_CASE("source lines of three thousand functions cost less than 2 MiB", "[E15]") {
  check_memory(LoadedFile(agent_path()));
}

// Takes 5 GB of disk for a while.
TEST_CASE("so they do with a gigabyte of debug information", "[E15][.long]") {
  const TempDir dir;
  // One that was made before.
  const char* const ready = std::getenv("LARGE_LIBRARY");
  const std::string file = ready != nullptr ? ready : dir.file("large.so");
  if (ready == nullptr) {
    const std::string build = std::filesystem::path(agent_path()).parent_path();
    const Outcome made = run({std::getenv("MAKE_LARGE"), "44", file, build + "/agent/service/libservice.a",
                              build + "/agent/safe/libsafe.a", build + "/encoder/libencoder.a"},
                             {}, {}, std::chrono::seconds(600));
    INFO(made.err);
    REQUIRE(made.ok());
  }
  std::printf("%zu bytes\n", static_cast<std::size_t>(std::filesystem::file_size(file)));
  REQUIRE(std::filesystem::file_size(file) > std::size_t{1} << 30);

  const LoadedFile loaded(file);
  // One that is reading when the agent goes away ends, too.
  const std::string own_helper = dir.file("libprofagent.so");
  std::filesystem::copy_file(agent_path(), own_helper);
  {
    SourceLines gone({.helper = own_helper, .patience_seconds = 0.5});
    static_cast<void>(gone.find(loaded.modules(), pcs_of(loaded)));
    REQUIRE(runs(own_helper));
  }
  CHECK(eventually([&] { return !runs(own_helper); }));
  check_memory(loaded);
}
