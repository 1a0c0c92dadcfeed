// When a helper process is started, how large it may get, and how long it is waited for.
#include "agent/service/line_helper_rules.h"

#include <cstdio>
#include <fstream>
#include <set>

#include "agent/safe/clock.h"
#include "agent/service/query.h"
#include "agent/service/stacks.h"
#include "test/support/process.h"
#include "test/unit/lines_victim.h"
#include "test/unit/own_helper.h"

using namespace profagent::service;
using namespace profagent::service::test;
using profagent::test::eventually;

TEST_CASE("after a crash there is a pause, whatever is asked") {
  const Folder folder;
  const LinesLibrary one(folder.copy("liblines_optimized.so", "libone.so"));
  const LinesLibrary two(folder.copy("liblines_plain.so", "libtwo.so"));
  std::vector<std::uintptr_t> both = one.calls();
  both.insert(both.end(), two.calls().begin(), two.calls().end());
  const ModuleSet modules = ModuleSet::now({});
  const OwnHelper helper("dies", victim_path("bad_helper"));
  SECTION("as long as it lasts, nothing is started") {
    SourceLines lines(helper.options());
    CHECK(lines.find(modules, both).problem.starts_with("Source lines are incomplete: the helper has ended"));
    CHECK(starts(helper) == 1);
    const std::string problem = lines.find(modules, both).problem;
    CHECK(problem.starts_with(
        "No source lines: the helper that reads them cannot be run: it has ended while it read "));
    CHECK(starts(helper) == 1);
  }
  SECTION("then one, and files that it has not crashed with come first") {
    SourceLines lines(without_pause(helper));
    std::set<std::string> problems;
    for (std::size_t i = 1; i <= 4; ++i) {
      const std::string problem = lines.find(modules, both).problem;
      CHECK(problem.starts_with(i <= 2 ? "Source lines are incomplete: " : "No source lines of "));
      problems.insert(problem);
      CHECK(starts(helper) == i);
      CHECK(problems.size() == i);
    }
    // Both have been tried twice.
    CHECK(lines.find(modules, both).problem.empty());
    CHECK(starts(helper) == 4);
  }
}

TEST_CASE("the helper gets a quarter of the memory that is left") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "libroom.so"));
  const OwnHelper helper;
  const ModuleSet modules = ModuleSet::now({});
  SourceLines lines(helper.options());
  const auto limit = [&] {
    REQUIRE(helper.processes().size() == 1);
    const std::string limits =
        profagent::test::read_text("/proc/" + std::to_string(helper.processes()[0]) + "/limits");
    unsigned long soft = 0;
    unsigned long hard = 0;
    REQUIRE(std::sscanf(limits.c_str() + limits.find("Max data size"), "Max data size %lu %lu", &soft,
                        &hard) == 2);
    CHECK(soft == hard);
    return hard;
  };
  SECTION("and no more than 2 GiB") {
    REQUIRE(lines.find(modules, library.calls()).problem.empty());
    CHECK(limit() == 2048 * kMega);
  }
  SECTION("also when that is little") {
    helper.machine().set_available(400 * kMega);
    REQUIRE(lines.find(modules, library.calls()).problem.empty());
    CHECK(limit() == 100 * kMega);
  }
  SECTION("and does not run when that is too little") {
    helper.machine().set_groups("0::/a\n");
    helper.machine().add_group("/a", std::to_string(1000 * kMega), "max", 745 * kMega);
    const LineAnswer answer = lines.find(modules, library.calls());
    CHECK(answer.problem ==
          "No source lines: the helper that reads them cannot be run: its control group has only 255 MiB of "
          "memory left.");
    CHECK(texts_of(answer) == std::vector<Text>(4));
    CHECK(helper.processes().empty());
  }
  SECTION("and ends when others need it") {
    REQUIRE(lines.find(modules, std::span(library.calls()).first(1)).problem.empty());
    REQUIRE(helper.processes().size() == 1);
    helper.machine().set_available(63 * kMega);
    CHECK(lines.find(modules, library.calls()).problem ==
          "No source lines: the helper that reads them cannot be run: the machine has only 63 MiB of memory "
          "left.");
    CHECK(eventually([&] { return helper.processes().empty(); }));
  }
}

TEST_CASE("one that crashes with little memory is told so") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "liblittle.so"));
  const OwnHelper helper("dies", victim_path("bad_helper"));
  helper.machine().set_available(400 * kMega);
  SourceLines lines(helper.options());
  CHECK(lines.find(ModuleSet::now({}), library.calls()).problem ==
        "Source lines are incomplete: the helper has ended while it read " + folder / "liblittle.so" +
            " (it may take 100 MiB of memory). Ask again later.");
}

TEST_CASE("one that says too much is not listened to for ever") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "libmuch.so"));
  const OwnHelper helper("talks", victim_path("bad_helper"));
  std::vector<std::uintptr_t> pcs;
  // With 56 KiB each.
  for (std::uintptr_t i = 0; i < 1500; ++i) pcs.push_back(library.calls()[0] + i);
  const ModuleSet modules = ModuleSet::now({});
  REQUIRE(modules.find(pcs.back()) == modules.find(pcs.front()));
  SourceLines lines(helper.options());
  for (int i = 0; i < 2; ++i) {
    const LineAnswer answer = lines.find(modules, pcs);
    CHECK(answer.problem == "Source lines are incomplete: the agent has no memory for more of them.");
    std::size_t known = 0;
    for (const LineChain& chain : answer.chains) known += chain.empty() ? 0 : 1;
    CHECK(known > 512);
    CHECK(known < 700);
    CHECK(eventually([&] { return helper.processes().empty(); }));
  }
}

TEST_CASE("what a request has found is not forgotten before its end") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "libparts.so"));
  const OwnHelper helper("talks", victim_path("bad_helper"));
  std::vector<std::uintptr_t> pcs;
  // More than is kept from one request to the next.
  for (std::uintptr_t i = 0; i < 100; ++i) pcs.push_back(library.calls()[0] + i);
  const ModuleSet modules = ModuleSet::now({});
  SourceLines lines(helper.options());
  LinePatience patience;
  const std::vector<Text> first = texts_of(lines.find(modules, pcs, patience));
  CHECK(!first.back().empty());
  // Without the texts in the failure, which are megabytes.
  CHECK((texts_of(lines.find(modules, pcs, patience)) == first));
  // This helper never says the same twice.
  const std::vector<Text> other = texts_of(lines.find(modules, pcs));
  CHECK(!other.back().empty());
  CHECK((other != first));
}

TEST_CASE("what was waited for in vain is not waited for again") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "libvain.so"));
  const ModuleSet modules = ModuleSet::now({});
  const OwnHelper helper("late", victim_path("bad_helper"));
  SourceLines lines(without_pause(helper));
  const std::string problem =
      "Source lines are incomplete: " + folder / "libvain.so" + " is still being read. Ask again.";
  // On a busy machine it may not even begin in time.
  CHECK(eventually([&] {
    LinePatience short_one{.until = profagent::safe::monotonic_now() + 300'000'000};
    return lines.find(modules, library.calls(), short_one).problem == problem;
  }));
  // Else this would take a day.
  LinePatience endless{.until = profagent::safe::monotonic_now() + 86'400'000'000'000};
  CHECK(lines.find(modules, library.calls(), endless).problem == problem);
}

TEST_CASE("a request whose time is over starts nothing") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "libover.so"));
  const ModuleSet modules = ModuleSet::now({});
  const OwnHelper helper("late", victim_path("bad_helper"));
  SourceLines lines(helper.options());
  LinePatience over{.until = 1};
  CHECK(lines.find(modules, library.calls(), over).problem ==
        "Source lines are incomplete: there was no time to read " + folder / "libover.so" + ". Ask again.");
  CHECK(starts(helper) == 0);
}

TEST_CASE("all profiles of one request have one patience") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "libone.so"));
  const SymbolWish wish = parse_symbol_wish(Query(""));
  REQUIRE(wish.patience != nullptr);
  CHECK(SymbolWish(wish).patience == wish.patience);
  CHECK(parse_symbol_wish(Query("")).patience != wish.patience);

  SymbolSources sources;
  constexpr profagent::encoder::TypeAndUnit kTypes[] = {{"samples", "count"}};
  StackPool stacks;
  stacks.add(library.calls());
  const auto comments = [&] {
    profagent::encoder::Profile profile(kTypes);
    static_cast<void>(ReadableStacks(sources, wish, stacks).describe(profile));
    std::string all;
    for (const auto comment : profile.comments()) all += std::string(profile.text(comment)) + "\n";
    return all;
  };
  wish.patience->until = 1;
  CHECK(comments() ==
        "Source lines are incomplete: there was no time to read " + folder / "libone.so" + ". Ask again.\n");
}
