// Each test shows from which source a name comes, by leaving only that one.
#include "agent/service/symbols.h"

#include <algorithm>

#include "test/unit/symbols_victim.h"

using namespace profagent::service;
using namespace profagent::service::test;

namespace {

using Names = std::vector<std::string>;
const Names kAll = {"symbols_exported", "symbols_static", "symbols_many_names", "symbols_asm_label",
                    "symbols_asm_after"};

Names with_placeholder(Names names, const std::string& placeholder) {
  std::replace(names.begin(), names.end(), std::string("?"), placeholder);
  return names;
}

}  // namespace

TEST_CASE("the symbol table of the file names every function") {
  const Folder folder;
  for (const char* const variant :
       {"libsymbols_lib.so", "libsymbols_noseparate.so", "libsymbols_high.so", "libsymbols_noid.so"}) {
    INFO(variant);
    const Library library(folder.copy(variant, variant));
    CHECK(names_of(library) == kAll);
  }
}

TEST_CASE("a stripped library has the names that it exports, and no wrong ones") {
  const Folder folder;
  const std::string file = folder.copy("libsymbols_lib.so", "libstripped.so");
  run({"strip", file});
  const Library library(file);
  CHECK(names_of(library) ==
        with_placeholder({"symbols_exported", "?", "symbols_many_names", "?", "?"}, "[libstripped.so]"));
}

TEST_CASE("a debug file is found by its build id") {
  const Folder folder;
  const std::string file = folder.copy("libsymbols_lib.so", "libbyid.so");
  const std::string id = build_id_by_readelf(file);
  const std::string place = folder / ("debug/.build-id/" + id.substr(0, 2));
  std::filesystem::create_directories(place);
  run({"objcopy", "--only-keep-debug", file, place + "/" + id.substr(2) + ".debug"});
  run({"strip", file});
  const Library library(file);
  CHECK(names_of(library, folder / "debug") == kAll);
}

TEST_CASE("a debug file is found by its link, in three places, and only if it is the right one") {
  for (const char* const victim : {"libsymbols_lib.so", "libsymbols_noid.so"}) {
    for (const std::string place : {"", ".debug/", "root"}) {
      INFO(victim << " " << place);
      const Folder folder;
      const std::string file = folder.copy(victim, "libbylink.so");
      const std::string where = place == "root" ? folder / ("root" + folder.path() + "/") : folder / place;
      std::filesystem::create_directories(where);
      const std::string debug = where + "/bylink.debug";
      run({"objcopy", "--only-keep-debug", file, debug});
      run({"strip", file});
      run({"objcopy", "--add-gnu-debuglink=" + debug, file});
      const Library library(file);
      CHECK(names_of(library, folder / "root") == kAll);

      // Now another build of it lies there.
      run({"objcopy", "--only-keep-debug", victim_path("libsymbols_high.so"), debug});
      CHECK(names_of(library, folder / "root") ==
            with_placeholder({"symbols_exported", "?", "symbols_many_names", "?", "?"}, "[libbylink.so]"));
    }
  }
}

TEST_CASE("mini debug information names static functions") {
  const Folder folder;
  const std::string file = folder.copy("libsymbols_lib.so", "libmini.so");
  const std::string mini = folder / "mini";
  run({"objcopy", "-S", "--keep-symbol=symbols_static", "--remove-section=.comment", file, mini});
  run({"xz", mini});
  run({"strip", file});
  run({"objcopy", "--add-section", ".gnu_debugdata=" + mini + ".xz", file});
  const Library library(file);
  CHECK(names_of(library) ==
        with_placeholder({"symbols_exported", "symbols_static", "symbols_many_names", "?", "?"},
                         "[libmini.so]"));
}

TEST_CASE("a file without section headers is read by its dynamic segment") {
  const Folder folder;
  const std::string file = folder.copy("libsymbols_lib.so", "libbare.so");
  {
    // e_shoff, e_shnum, e_shstrndx
    std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
    const char zeros[8] = {};
    bytes.seekp(40).write(zeros, 8);
    bytes.seekp(60).write(zeros, 4);
  }
  const Library library(file);
  CHECK(names_of(library) ==
        with_placeholder({"symbols_exported", "?", "symbols_many_names", "?", "?"}, "[libbare.so]"));
}

TEST_CASE("a library whose file was replaced keeps its own names") {
  const Folder folder;
  const std::string file = folder.copy("libsymbols_lib.so", "libreplaced.so");
  run({"strip", file});
  const Library library(file);
  std::filesystem::remove(file);
  std::filesystem::copy_file(victim_path("libsymbols_high.so"), file);
  // Root reaches the deleted file, anybody the exported names in memory: the same, as it was stripped.
  CHECK(names_of(library) ==
        with_placeholder({"symbols_exported", "?", "symbols_many_names", "?", "?"}, "[libreplaced.so]"));
}

TEST_CASE("a second request reads no file, and clear() forgets") {
  const Folder folder;
  const Library library(folder.copy("libsymbols_lib.so", "libcached.so"));
  const ModuleSet modules = ModuleSet::now({});
  Symbolizer symbolizer("/nonexistent");
  const std::vector<std::uintptr_t> pcs = {library.inside(Library::kStatic),
                                           library.inside(Library::kExported), 16,
                                           library.inside(Library::kStatic)};
  const auto first = symbolizer.resolve(modules, pcs);
  CHECK(symbolizer.files_opened() == 1);
  std::filesystem::remove(folder / "libcached.so");
  const auto second = symbolizer.resolve(modules, pcs);
  CHECK(symbolizer.files_opened() == 1);
  for (std::size_t i = 0; i < pcs.size(); ++i) {
    CHECK(first[i].symbol->name == second[i].symbol->name);
    CHECK(first[i].start == second[i].start);
  }
  CHECK(first[0].start == pcs[0] - 2);
  CHECK(first[2].symbol->name == "[unknown]");
  CHECK(first[2].module == nullptr);
  CHECK_FALSE(first[2].found);
  CHECK(symbolizer.cached() == 2);
  symbolizer.clear();
  CHECK(symbolizer.cached() == 0);
}

TEST_CASE("C++ names are demangled, system names are not") {
  const ModuleSet modules = ModuleSet::now({});
  Symbolizer symbolizer;
  const auto pc = reinterpret_cast<std::uintptr_t>(dlsym(RTLD_DEFAULT, "_ZNSo5flushEv"));
  REQUIRE(pc != 0);
  const auto answer = symbolizer.resolve(modules, {&pc, 1}).front();
  CHECK(answer.symbol->name == "std::ostream::flush");
  CHECK(answer.symbol->system_name == "_ZNSo5flushEv");
}

TEST_CASE("programs, position-independent or not, name their own functions") {
  for (const char* const victim : {"symbols_self_pie", "symbols_self_fixed"}) {
    CHECK(run({victim_path(victim)}) == "victim::Worker::run _ZN6victim6Worker3runEi 1\n");
  }
}
