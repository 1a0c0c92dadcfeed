// What is found in debug information, wherever it lies and however it is packed, and what is remembered.
#include "agent/service/source_lines.h"

#include <algorithm>
#include <fstream>
#include <memory>

#include "agent/service/stacks.h"
#include "test/unit/lines_victim.h"

using namespace profagent::service;
using namespace profagent::service::test;

namespace {

std::vector<Text> lines_of(const LinesLibrary& library, std::string_view debug_root = "/nonexistent") {
  SourceLines lines(with_helper(debug_root));
  const LineAnswer answer = lines.find(ModuleSet::now({}), library.calls());
  CHECK(answer.problem.empty());
  return texts_of(answer);
}

// Overwrites a section's first bytes in the file.
void damage(const std::string& file, const std::string& section, std::size_t at, std::size_t size,
            char value) {
  const std::string text = run({"readelf", "-SW", file});
  const std::size_t row = text.find(" " + section + " ");
  REQUIRE(row != std::string::npos);
  unsigned long offset = 0;
  REQUIRE(std::sscanf(text.c_str() + row + section.size() + 2, "%*s %*s %lx", &offset) == 1);
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekp(static_cast<std::streamoff>(offset + at));
  stream << std::string(size, value);
  REQUIRE(stream.good());
}

const std::vector<Text> kNothing(4);

}  // namespace

TEST_CASE("lines and inlined functions are what the source says") {
  const Folder folder;
  for (const char* const variant : {"liblines_plain.so", "liblines_optimized.so", "liblines_lto.so",
                                    "liblines_dwarf4.so", "liblines_packed.so", "liblines_noid.so"}) {
    INFO(variant);
    const LinesLibrary library(folder.copy(variant, variant));
    REQUIRE(library.truth().size() == 4);
    const bool is_linked_as_one = variant == std::string("liblines_lto.so");
    CHECK(lines_of(library) == (is_linked_as_one ? library.truth() : without_far_inlining(library.truth())));
  }
}

TEST_CASE("files have the compiler's full path") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "libfiles.so"));
  SourceLines lines(with_helper());
  const LineAnswer answer = lines.find(ModuleSet::now({}), library.calls());
  REQUIRE(!answer.chains[0].empty());
  for (const SourceLine line : answer.chains[0]) {
    CHECK(line.file.starts_with('/'));
    CHECK(line.file.ends_with("test/victims/lines_lib.cc"));
  }
}

TEST_CASE("a separate debug file is found by its build id") {
  const Folder folder;
  const std::string file = folder.copy("liblines_optimized.so", "libbyid.so");
  const std::string id = build_id_by_readelf(file);
  const std::string place = folder / ("debug/.build-id/" + id.substr(0, 2));
  std::filesystem::create_directories(place);
  const std::string debug = place + "/" + id.substr(2) + ".debug";
  run({"objcopy", "--only-keep-debug", "--compress-debug-sections", file, debug});
  run({"strip", file});
  const LinesLibrary library(file);
  CHECK(lines_of(library) == kNothing);
  CHECK(lines_of(library, folder / "debug") == without_far_inlining(library.truth()));

  SECTION("also when the library itself is gone") {
    std::filesystem::remove(file);
    CHECK(lines_of(library, folder / "debug") == without_far_inlining(library.truth()));
  }
  SECTION("and only if it is the right one") {
    std::filesystem::copy_file(victim_path("liblines_plain.so"), debug,
                               std::filesystem::copy_options::overwrite_existing);
    CHECK(lines_of(library, folder / "debug") == kNothing);
  }
}

TEST_CASE("a separate debug file is found by its link") {
  for (const std::string victim : {"liblines_optimized.so", "liblines_noid.so"}) {
    INFO(victim);
    const Folder folder;
    const std::string file = folder.copy(victim, "libbylink.so");
    std::filesystem::create_directories(folder / ".debug");
    const std::string debug = folder / ".debug/bylink.debug";
    run({"objcopy", "--only-keep-debug", file, debug});
    run({"strip", file});
    run({"objcopy", "--add-gnu-debuglink=" + debug, file});
    const LinesLibrary library(file);
    CHECK(lines_of(library) == without_far_inlining(library.truth()));
    std::filesystem::remove(debug);
    CHECK(lines_of(library) == kNothing);
  }
}

TEST_CASE("a stripped file of the name that is linked to is no debug file") {
  // Debian's libraries link to their own name, below another root.
  const Folder folder;
  const std::string file = folder.copy("liblines_optimized.so", "libown.so");
  const std::string place = folder / "debug" + (folder / "");
  std::filesystem::create_directories(place);
  run({"objcopy", "--only-keep-debug", file, place + "libown.so"});
  run({"strip", file});
  run({"objcopy", "--add-gnu-debuglink=" + place + "libown.so", file});
  std::filesystem::copy_file(file, folder / "libother.so");
  const LinesLibrary library(folder / "libother.so");
  CHECK(lines_of(library, folder / "debug") == without_far_inlining(library.truth()));
}

TEST_CASE("what several files share is found in its own file (dwz)") {
  // Debian's packages name it absolute, Fedora's relative.
  for (const bool is_relative : {false, true}) {
    INFO("relative: " << is_relative);
    const Folder folder;
    std::vector<std::string> command = {"dwz", "-m", folder / "common.debug"};
    if (is_relative) command.emplace_back("-r");
    for (const char* const victim : {"liblines_plain.so", "liblines_optimized.so", "liblines_lto.so"})
      command.push_back(folder.copy(victim, victim));
    run(command);
    const LinesLibrary library(folder / "liblines_optimized.so");
    CHECK(lines_of(library) == without_far_inlining(library.truth()));
    // They do need it.
    std::filesystem::remove(folder / "common.debug");
    CHECK(lines_of(library) != without_far_inlining(library.truth()));
  }
}

TEST_CASE("a file that is not what runs is not read", "[E16]") {
  const Folder folder;
  const std::string file = folder.copy("liblines_optimized.so", "libreplaced.so");
  const LinesLibrary library(file);
  std::filesystem::remove(file);
  // Root may open what is mapped though it has no name any more.
  const std::vector<Text> right = geteuid() == 0 ? without_far_inlining(library.truth()) : kNothing;
  SECTION("another build") {
    std::filesystem::copy_file(victim_path("liblines_plain.so"), file);
    CHECK(lines_of(library) == right);
  }
  SECTION("nothing") {
    CHECK(lines_of(library) == right);
  }
}

TEST_CASE("damaged debug information gives fewer lines, and no harm", "[E16]") {
  const std::pair<const char*, char> damages[] = {{".debug_info", '\xff'},   {".debug_abbrev", '\xff'},
                                                  {".debug_line", '\xff'},   {".debug_str", '\xff'},
                                                  {".debug_rnglists", '\0'}, {".debug_line_str", '\xff'}};
  for (const auto& [section, value] : damages) {
    INFO(section);
    const Folder folder;
    const std::string file = folder.copy("liblines_optimized.so", "libdamaged.so");
    damage(file, section, 8, 200, value);
    const LinesLibrary library(file);
    SourceLines lines(with_helper());
    const LineAnswer answer = lines.find(ModuleSet::now({}), library.calls());
    CHECK(answer.chains.size() == 4);
    for (const LineChain& chain : answer.chains) CHECK(chain.size() < 64);
  }
}

TEST_CASE("a file that is cut short gives no lines, and no harm", "[E16]") {
  const Folder folder;
  const std::string file = folder.copy("liblines_optimized.so", "libcut.so");
  const std::string id = build_id_by_readelf(file);
  const std::string place = folder / ("debug/.build-id/" + id.substr(0, 2));
  std::filesystem::create_directories(place);
  const std::string debug = place + "/" + id.substr(2) + ".debug";
  run({"objcopy", "--only-keep-debug", file, debug});
  run({"strip", file});
  const LinesLibrary library(file);
  const auto size = std::filesystem::file_size(debug);
  for (const auto part : {size / 8, size / 3, size / 2}) {
    INFO(part);
    std::filesystem::resize_file(debug, part);
    CHECK(lines_of(library, folder / "debug") == kNothing);
    run({"objcopy", "--only-keep-debug", victim_path("liblines_optimized.so"), debug});
  }
}

TEST_CASE("addresses outside of everything, and repetitions, are allowed") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "liboutside.so"));
  SourceLines lines(with_helper());
  const std::uintptr_t call = library.calls()[0];
  int local = 0;
  const LineAnswer answer = lines.find(
      ModuleSet::now({}), std::vector<std::uintptr_t>{0, call, reinterpret_cast<std::uintptr_t>(&local), call,
                                                      ~std::uintptr_t{0}});
  CHECK(answer.problem.empty());
  CHECK(texts_of(answer) == std::vector<Text>{"", library.truth()[0], "", library.truth()[0], ""});
  CHECK(answer.chains[1] == answer.chains[3]);
}

TEST_CASE("chains stay valid when all is forgotten") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "libkept.so"));
  LineAnswer answer;
  {
    SourceLines lines(with_helper());
    answer = lines.find(ModuleSet::now({}), library.calls());
    lines.clear();
    // New texts, where the old ones would be.
    CHECK(texts_of(lines.find(ModuleSet::now({}), library.calls())) == texts_of(answer));
  }
  CHECK(texts_of(answer) == without_far_inlining(library.truth()));
}

TEST_CASE("a profile has the texts of its lines from what remembers them, as long as it needs them") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "liblent.so"));
  SymbolSources sources{.symbolizer = Symbolizer("/nonexistent"), .source_lines = SourceLines(with_helper())};
  LineAnswer answer = sources.source_lines.find(ModuleSet::now({}), library.calls());
  const std::weak_ptr<const LineStore> store = answer.store;
  REQUIRE(answer.chains[0].size() > 1);
  const SourceLine inlined = answer.chains[0][0];
  const std::string function(inlined.function);
  const std::string file(inlined.file);
  answer = {};
  {
    constexpr profagent::encoder::TypeAndUnit kTypes[] = {{"samples", "count"}};
    profagent::encoder::Profile profile(kTypes);
    StackPool stacks;
    stacks.add(library.calls());
    {
      const ReadableStacks readable(sources, {.detail = SymbolDetail::kLines}, stacks);
      static_cast<void>(readable.describe(profile));
    }
    sources.source_lines.clear();
    REQUIRE_FALSE(store.expired());
    CHECK(profile.text(profile.intern(function)).data() == inlined.function.data());
    CHECK(profile.text(profile.intern(file)).data() == inlined.file.data());
  }
  CHECK(store.expired());
}
