#include "agent/service/modules.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <thread>

#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "agent/safe/arena.h"
#include "agent/safe/image_print.h"
#include "agent/safe/module_log.h"
#include "agent/service/debug_files.h"
#include "agent/service/line_files.h"
#include "agent/service/stacks.h"
#include "test/unit/symbols_victim.h"

using namespace profagent::service;
using namespace profagent::service::test;

namespace {

std::vector<std::byte> from_hex(const std::string& text) {
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i < text.size(); i += 2)
    bytes.push_back(static_cast<std::byte>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return bytes;
}

// The whole span of the object that holds `pc`, as the ground floor records it.
SeenModule seen_at(std::uintptr_t pc) {
  struct Search {
    std::uintptr_t pc;
    SeenModule found;
  } search{pc, {}};
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* data) {
        auto& wanted = *static_cast<Search*>(data);
        std::uintptr_t start = ~std::uintptr_t{0};
        std::uintptr_t end = 0;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& header = info->dlpi_phdr[i];
          if (header.p_type != PT_LOAD) continue;
          start = std::min<std::uintptr_t>(start, (info->dlpi_addr + header.p_vaddr) & ~4095UL);
          end = std::max<std::uintptr_t>(end, info->dlpi_addr + header.p_vaddr + header.p_memsz);
        }
        if (wanted.pc < start || wanted.pc >= end) return 0;
        wanted.found.start = start;
        wanted.found.end = end;
        return 1;
      },
      &search);
  REQUIRE(search.found.end != 0);
  return search.found;
}

}  // namespace

TEST_CASE("the main executable comes first, everything is page aligned, build ids are readelf's") {
  const ModuleSet set = ModuleSet::now({});
  REQUIRE(!set.modules().empty());
  char self[4096];
  self[readlink("/proc/self/exe", self, sizeof self - 1)] = '\0';
  CHECK(set.modules().front().path == std::string(self).substr(0, std::strlen(self)));
  int files = 0;
  for (const Module& module : set.modules()) {
    INFO(module.path);
    CHECK(module.start % 4096 == 0);
    CHECK(module.limit % 4096 == 0);
    CHECK(module.offset % 4096 == 0);
    CHECK(module.path.find("(deleted)") == std::string::npos);
    if (module.kind != ModuleKind::kFile) continue;
    ++files;
    CHECK(module.build_id == build_id_by_readelf(module.path));
  }
  CHECK(files >= 3);
}

TEST_CASE("the kernel's code and code made at run time") {
  const ModuleSet before = ModuleSet::now({});
  const Module* const vdso = before.find(getauxval(AT_SYSINFO_EHDR));
  REQUIRE(vdso != nullptr);
  CHECK(vdso->path == "[vdso]");
  CHECK(vdso->kind == ModuleKind::kVdso);
  CHECK(vdso->build_id.size() == 40);

  void* const code = mmap(nullptr, 8192, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(code != MAP_FAILED);
  const ModuleSet after = ModuleSet::now({});
  const Module* const jit = after.find(reinterpret_cast<std::uintptr_t>(code) + 5);
  REQUIRE(jit != nullptr);
  CHECK(jit->kind == ModuleKind::kAnonymous);
  CHECK(jit->path == "[jit]");
  CHECK(after.image_of(*jit) == nullptr);
  munmap(code, 8192);
  CHECK(after.find(16) == nullptr);
  CHECK(before.modules().front().path == after.modules().front().path);
}

TEST_CASE("a deleted or replaced file keeps the build id of what runs") {
  const Folder folder;
  const std::string file = folder.copy("libsymbols_lib.so", "libgone.so");
  const std::string id = build_id_by_readelf(file);
  const Library library(file);
  const std::uintptr_t pc = library.inside(Library::kExported);
  std::filesystem::remove(file);
  {
    const ModuleSet set = ModuleSet::now({});
    const Module* const module = set.find(pc);
    REQUIRE(module != nullptr);
    CHECK(module->path == file);
    CHECK(module->build_id == id);
  }
  std::filesystem::copy_file(victim_path("libsymbols_high.so"), file);
  REQUIRE(build_id_by_readelf(file) != id);
  const ModuleSet set = ModuleSet::now({});
  CHECK(set.find(pc)->build_id == id);
}

TEST_CASE("an unloaded library is remembered") {
  const Folder folder;
  for (const bool keep_file : {true, false}) {
    INFO(keep_file);
    const std::string file = folder.copy("libsymbols_lib.so", keep_file ? "libkept.so" : "libremoved.so");
    const auto id = from_hex(build_id_by_readelf(file));
    Library library(file);
    const std::uintptr_t pc = library.inside(Library::kStatic);
    SeenModule seen = seen_at(pc);
    seen.path = file.c_str();
    seen.build_id = id;
    const ModuleSet live = ModuleSet::now({&seen, 1});
    REQUIRE(live.find(pc) != nullptr);
    const Module expected = *live.find(pc);
    const std::size_t modules_with_it = live.modules().size();
    library.close();
    if (!keep_file) std::filesystem::remove(file);

    const ModuleSet set = ModuleSet::now({&seen, 1});
    const Module* const module = set.find(pc);
    REQUIRE(module != nullptr);
    CHECK(module->path == file);
    CHECK(module->build_id == expected.build_id);
    CHECK_FALSE(set.image_of(*module)->live);
    CHECK(set.modules().size() == modules_with_it);
    CHECK(&set.modules().back() == module);
    if (keep_file) {
      CHECK(module->start == expected.start);
      CHECK(module->limit == expected.limit);
      CHECK(module->offset == expected.offset);
    }
    Symbolizer symbolizer("/nonexistent");
    const auto answer = symbolizer.resolve(set, {&pc, 1}).front();
    CHECK(answer.symbol->name == (keep_file ? "symbols_static" : "[libremoved.so]"));
  }
}

// As the ground floor does.
std::uint64_t print_in_memory(const SeenModule& seen) {
  return profagent::safe::image_print(reinterpret_cast<const void*>(seen.start));
}

TEST_CASE("an unloaded library without a build id has names as long as the file is what it was") {
  const Folder folder;
  const std::string file = folder.copy("libsymbols_noid.so", "libnoid.so");
  Library library(file);
  const std::uintptr_t pc = library.inside(Library::kStatic);
  SeenModule seen = seen_at(pc);
  seen.path = file.c_str();
  seen.print = print_in_memory(seen);
  CHECK(seen.print != 0);
  library.close();
  const auto name = [&] {
    const ModuleSet set = ModuleSet::now({&seen, 1});
    Symbolizer symbolizer("/nonexistent");
    return symbolizer.resolve(set, {&pc, 1}).front().symbol->name;
  };
  CHECK(name() == "symbols_static");
  SECTION("not when another has taken its path, of the same shape") {
    run({"objcopy", "--redefine-sym", "symbols_static=symbols_of_another_build", file, folder / "new.so"});
    std::filesystem::rename(folder / "new.so", file);
    CHECK(name() == "[libnoid.so]");
    const ModuleSet set = ModuleSet::now({&seen, 1});
    CHECK(find_line_file(*set.image_of(*set.find(pc)), "/nonexistent").file == nullptr);
  }
  SECTION("not when nothing is known of it") {
    seen.print = 0;
    CHECK(name() == "[libnoid.so]");
  }
  SECTION("also when the file was copied") {
    std::filesystem::copy_file(file, folder / "copy.so");
    std::filesystem::rename(folder / "copy.so", file);
    CHECK(name() == "symbols_static");
  }
}

TEST_CASE("a profile names an unloaded library without a build id", "[E11]") {
  namespace safe = profagent::safe;
  const Folder folder;
  Library library(folder.copy("libsymbols_noid.so", "libprofile.so"));
  const std::uintptr_t pc = library.inside(Library::kStatic);
  safe::arena.set_limit(safe::arena.mapped() + (std::size_t{16} << 20U));
  safe::module_log.note({&pc, 1});
  library.close();
  safe::module_log.on_unload();
  SymbolSources sources{.symbolizer = Symbolizer("/nonexistent"), .source_lines = SourceLines()};
  StackPool stacks;
  stacks.add({&pc, 1});
  const ReadableStacks readable(sources, {.detail = SymbolDetail::kNames}, stacks);
  CHECK(readable.frames().back().resolved.symbol->name == "symbols_static");
}

TEST_CASE("what is remembered of an unloaded library without a build id is not another's") {
  Image image;
  image.path = "/lib.so";
  image.print = 1;
  const std::string first = identity_of(image);
  image.print = 2;
  CHECK(identity_of(image) != first);
}

TEST_CASE("a live module wins over a remembered one, unless only the other was seen") {
  const Folder folder;
  const std::string file = folder.copy("libsymbols_lib.so", "liblive.so");
  const auto id = from_hex(build_id_by_readelf(file));
  const Library library(file);
  const std::uintptr_t pc = library.inside(Library::kStatic);
  SeenModule self = seen_at(pc);
  self.path = "/another/name/of/liblive.so";
  self.build_id = id;
  const std::byte other_id[] = {std::byte{0xab}, std::byte{0xcd}};
  SeenModule other = self;
  other.path = "/gone/libother.so";
  other.build_id = other_id;

  const auto found = [&](std::vector<SeenModule> seen) {
    const ModuleSet set = ModuleSet::now(seen);
    return set.find(pc)->path;
  };
  CHECK(found({self}) == file);
  CHECK(found({other}) == "/gone/libother.so");
  self.epoch = 2;
  other.epoch = 1;
  CHECK(found({self, other}) == file);
  self.epoch = 1;
  other.epoch = 2;
  CHECK(found({self, other}) == "/gone/libother.so");
}

TEST_CASE("without /proc the loader's list serves") {
  const ModuleSet with = ModuleSet::now({});
  const ModuleSet without = ModuleSet::now({}, {.maps_path = "/nonexistent", .main_path = "/the/program"});
  REQUIRE(!without.modules().empty());
  CHECK(without.modules().front().path == "/the/program");
  std::set<std::string> ids;
  for (const Module& module : without.modules()) ids.insert(module.build_id);
  for (const Module& module : with.modules()) {
    if (module.path == "[vsyscall]" || module.kind == ModuleKind::kAnonymous) continue;
    INFO(module.path);
    CHECK(ids.count(module.build_id) == 1);
    const Module* const same = without.find(module.start);
    REQUIRE(same != nullptr);
    CHECK(same->start == module.start);
    CHECK(same->limit == module.limit);
    CHECK(same->offset == module.offset);
    CHECK(same->kind == module.kind);
  }
}

TEST_CASE("code moved to huge pages still belongs to its file") {
  const Folder folder;
  const std::string file = folder.copy("libsymbols_lib.so", "libhuge.so");
  const Library library(file);
  const std::uintptr_t pc = library.inside(Library::kStatic);
  const ModuleSet before = ModuleSet::now({});
  REQUIRE(before.find(pc) != nullptr);
  const Module module = *before.find(pc);
  const std::size_t size = module.limit - module.start;
  std::vector<char> code(size);
  std::memcpy(code.data(), reinterpret_cast<const void*>(module.start), size);
  void* const moved = mmap(reinterpret_cast<void*>(module.start), size, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  REQUIRE(moved != MAP_FAILED);
  std::memcpy(moved, code.data(), size);
  REQUIRE(mprotect(moved, size, PROT_READ | PROT_EXEC) == 0);
  const ModuleSet after = ModuleSet::now({});
  const Module* const same = after.find(pc);
  REQUIRE(same != nullptr);
  CHECK(same->path == module.path);
  CHECK(same->start == module.start);
  CHECK(same->limit == module.limit);
  CHECK(same->offset == module.offset);
  CHECK(names_of(library)[Library::kStatic] == "symbols_static");
}

TEST_CASE("a file that is cut off while it is mapped costs its names, not the process") {
  const Folder folder;
  const std::string file = folder.copy("libsymbols_lib.so", "libcut.so");
  const int descriptor = open(file.c_str(), O_RDWR);
  const auto size = std::filesystem::file_size(file);
  void* const mapped = mmap(nullptr, size, PROT_READ | PROT_EXEC, MAP_PRIVATE, descriptor, 0);
  REQUIRE(mapped != MAP_FAILED);
  for (const off_t length : {off_t{8192}, off_t{100}, off_t{0}}) {
    REQUIRE(ftruncate(descriptor, length) == 0);
    const ModuleSet set = ModuleSet::now({});
    const std::uintptr_t pc = reinterpret_cast<std::uintptr_t>(mapped) + 4096 + 3;
    REQUIRE(set.find(pc) != nullptr);
    CHECK(set.find(pc)->path == file);
    Symbolizer symbolizer("/nonexistent");
    CHECK(symbolizer.resolve(set, {&pc, 1}).front().symbol->name == "[libcut.so]");
  }
  munmap(mapped, size);
  close(descriptor);
}
