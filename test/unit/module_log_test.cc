#include "agent/safe/module_log.h"

#include <array>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <dlfcn.h>
#include <link.h>

#include "agent/safe/arena.h"
#include "agent/safe/counters.h"
#include "agent/safe/image_print.h"
#include "test/support/temp_dir.h"
#include "test/unit/storm.h"

namespace profagent::safe {
namespace {

using profagent::test::TempDir;

void give_room() {
  arena.set_limit(arena.mapped() + (std::size_t{16} << 20));
}

Pc own_code() {
  return reinterpret_cast<Pc>(&give_room) + 1;
}

// Inside libc whatever stands in front of it: its own atoi by handle.
Pc libc_code() {
  void* libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  return reinterpret_cast<Pc>(dlsym(libc, "atoi")) + 1;
}

const SeenModule* module_of(const ModuleLog& log, Pc pc) {
  for (std::uint32_t i = log.size(); i-- > 0;) {
    const SeenModule* module = log.at(i);
    if (module != nullptr && pc >= module->start && pc < module->end) return module;
  }
  return nullptr;
}

// The build id as the loader's own list of program headers leads to it.
std::string build_id_of(Pc pc) {
  struct Search {
    Pc pc;
    std::string found;
  } search{pc, {}};
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* data) {
        auto& wanted = *static_cast<Search*>(data);
        bool inside = false;
        std::string build_id;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const ElfW(Phdr)& segment = info->dlpi_phdr[i];
          const char* begin = reinterpret_cast<const char*>(info->dlpi_addr + segment.p_vaddr);
          if (segment.p_type == PT_LOAD)
            inside |= wanted.pc - (info->dlpi_addr + segment.p_vaddr) < segment.p_memsz;
          if (segment.p_type != PT_NOTE) continue;
          // A note of 20 bytes: name size 4, content size 20, type 3, "GNU".
          constexpr char kHead[] = "\4\0\0\0\24\0\0\0\3\0\0\0GNU";
          for (const char* at = begin; at + 36 <= begin + segment.p_memsz; at += 4) {
            if (std::memcmp(at, kHead, 16) == 0) build_id.assign(at + 16, 20);
          }
        }
        if (inside) wanted.found = build_id;
        return inside ? 1 : 0;
      },
      &search);
  return search.found;
}

TEST_CASE("a module is noted once, with its range, path and build id") {
  give_room();
  const auto log = std::make_unique<ModuleLog>();
  CHECK(log->size() == 0);
  const std::array<Pc, 4> pcs{own_code(), libc_code(), own_code() + 1, libc_code() + 1};
  CHECK(log->note(pcs) == 2);
  CHECK(log->note(pcs) == 2);

  const SeenModule* libc = module_of(*log, libc_code());
  REQUIRE(libc != nullptr);
  CHECK(std::string(libc->path).find("libc.so.6") != std::string::npos);
  const auto* id = reinterpret_cast<const char*>(libc->build_id);
  CHECK(std::string(id, libc->build_id_size).size() == 20);
  CHECK(std::string(id, libc->build_id_size) == build_id_of(libc_code()));

  const SeenModule* own = module_of(*log, own_code());
  REQUIRE(own != nullptr);
  CHECK(own != libc);
  CHECK(std::string(own->path).empty());
  CHECK(std::string(reinterpret_cast<const char*>(own->build_id), own->build_id_size) ==
        build_id_of(own_code()));
}

TEST_CASE("the first page of a module is noted, as it is in the file") {
  give_room();
  const auto log = std::make_unique<ModuleLog>();
  const std::array<Pc, 1> pcs{libc_code()};
  REQUIRE(log->note(pcs) == 1);
  std::array<char, kImagePrintBytes> page{};
  REQUIRE(std::ifstream(log->at(0)->path, std::ios::binary).read(page.data(), page.size()).good());
  CHECK(log->at(0)->print != 0);
  CHECK(log->at(0)->print == image_print(page.data()));
  page[page.size() - 1] ^= 1;
  CHECK(log->at(0)->print != image_print(page.data()));
}

TEST_CASE("only the begin of an image has a print, and only what nobody writes to") {
  alignas(Elf64_Ehdr) std::array<char, kImagePrintBytes> page{};
  CHECK(image_print(page.data()) == 0);
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_phoff = sizeof(header);
  header.e_phnum = 1;
  header.e_phentsize = sizeof(Elf64_Phdr);
  Elf64_Phdr segment{};
  segment.p_type = PT_LOAD;
  segment.p_flags = PF_R;
  segment.p_filesz = 1000;
  const auto print = [&] {
    std::memcpy(page.data(), &header, sizeof(header));
    std::memcpy(page.data() + sizeof(header), &segment, sizeof(segment));
    return image_print(page.data());
  };
  const std::uint64_t first = print();
  CHECK(first != 0);
  // Behind the segment there is something else in memory.
  page[1000] = 'x';
  CHECK(print() == first);
  page[999] = 'x';
  CHECK(print() != first);
  segment.p_flags = PF_R | PF_W;
  CHECK(print() == 0);
  segment.p_flags = PF_R;
  segment.p_offset = 4096;
  CHECK(print() == 0);
  segment.p_offset = 0;
  for (const std::size_t count : {73, 65535}) {
    header.e_phnum = static_cast<Elf64_Half>(count);
    CHECK(print() == 0);
  }
  header.e_phnum = 1;
  header.e_phoff = ~std::uint64_t{0};
  CHECK(print() == 0);
}

TEST_CASE("the vDSO is a module like others") {
  give_room();
  const auto log = std::make_unique<ModuleLog>();
  const std::array<Pc, 1> pcs{reinterpret_cast<Pc>(_r_debug.r_map->l_next->l_ld)};
  CHECK(log->note(pcs) == 1);
  CHECK(std::string(log->at(0)->path).find("vdso") != std::string::npos);
}

TEST_CASE("addresses of no module leave no trace") {
  give_room();
  const auto log = std::make_unique<ModuleLog>();
  int on_stack = 0;
  const std::array<Pc, 4> pcs{0, 42, reinterpret_cast<Pc>(&on_stack), ~Pc{0}};
  CHECK(log->note(pcs) == 0);
  CHECK(log->note({}) == 0);
}

TEST_CASE("after an unload modules are looked at again; those that are the same are not noted again") {
  give_room();
  const auto log = std::make_unique<ModuleLog>();
  const std::array<Pc, 2> pcs{own_code(), libc_code()};
  log->note(pcs);
  const SeenModule* libc = module_of(*log, libc_code());
  for (std::uint32_t unloads = 1; unloads <= 5; ++unloads) {
    log->on_unload();
    CHECK(libc->seen_at == unloads - 1);
    CHECK(log->note(pcs) == 2);
    CHECK(libc->seen_at == unloads);
  }
}

TEST_CASE("a library that is gone is remembered, and one that comes is noted") {
  give_room();
  const auto log = std::make_unique<ModuleLog>();
  // Any small library that nothing here is linked with.
  void* library = dlopen("libutil.so.1", RTLD_LAZY);
  REQUIRE(library != nullptr);
  const link_map* loaded = nullptr;
  REQUIRE(dlinfo(library, RTLD_DI_LINKMAP, &loaded) == 0);
  const std::array<Pc, 1> inside{reinterpret_cast<Pc>(loaded->l_ld)};
  const std::string path = loaded->l_name;
  REQUIRE(log->note(inside) == 1);
  dlclose(library);
  log->on_unload();
  const std::array<Pc, 1> other{libc_code()};
  CHECK(log->note(other) == 2);
  CHECK(log->at(0)->path == path);
  CHECK(module_of(*log, inside[0]) == log->at(0));
}

TEST_CASE("another build of a library is noted, also where the one before was, and without a build id") {
  give_room();
  const TempDir dir;
  const std::string path = dir.file("libnoid.so");
  std::filesystem::copy_file(std::string(std::getenv("VICTIM_DIR")) + "/libsymbols_noid.so", path);
  const auto log = std::make_unique<ModuleLog>();
  const auto note = [&] {
    void* const library = dlopen(path.c_str(), RTLD_LAZY);
    REQUIRE(library != nullptr);
    const link_map* loaded = nullptr;
    REQUIRE(dlinfo(library, RTLD_DI_LINKMAP, &loaded) == 0);
    const std::array<Pc, 1> inside{reinterpret_cast<Pc>(loaded->l_ld)};
    log->note(inside);
    dlclose(library);
    log->on_unload();
    return module_of(*log, inside[0]);
  };
  const SeenModule* const first = note();
  REQUIRE(first != nullptr);
  CHECK(first->build_id_size == 0);
  CHECK(first->print != 0);
  {
    // A part that the loader does not look at.
    std::filesystem::copy_file(path, dir.file("new.so"));
    std::fstream file(dir.file("new.so"), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(offsetof(Elf64_Ehdr, e_shoff));
    file << std::string(sizeof(Elf64_Off), '\0');
    REQUIRE(file.good());
  }
  std::filesystem::rename(dir.file("new.so"), path);
  const SeenModule* const second = note();
  REQUIRE(second != nullptr);
  CHECK(second != first);
  CHECK(second->print != first->print);
}

TEST_CASE("without memory it notes nothing and says so") {
  const auto log = std::make_unique<ModuleLog>();
  arena.set_limit(arena.mapped());
  while (arena.allocate(16) != nullptr) {
  }
  const std::uint64_t missed = counters.modules_not_noted;
  const std::array<Pc, 1> pcs{libc_code()};
  CHECK(log->note(pcs) == 0);
  CHECK(log->size() == 0);
  CHECK(counters.modules_not_noted == missed + 1);
  give_room();
  CHECK(log->note(pcs) == 1);
}

TEST_CASE("threads that note the same modules find each, and at most one copy per thread") {
  constexpr int kThreads = 4;
  give_room();
  for (int round = 0; round < 50; ++round) {
    const auto log = std::make_unique<ModuleLog>();
    const std::array<Pc, 2> pcs{own_code(), libc_code()};
    std::atomic<int> wrong{0};
    test::run_threads(kThreads, [&](int) {
      const std::uint32_t epoch = log->note(pcs);
      for (const Pc pc : pcs) {
        bool found = false;
        for (std::uint32_t i = 0; i < epoch; ++i) {
          const SeenModule* module = log->at(i);
          found |= module != nullptr && pc >= module->start && pc < module->end;
        }
        if (!found) ++wrong;
      }
    });
    REQUIRE(wrong == 0);
    REQUIRE(log->size() >= 2);
    REQUIRE(log->size() <= 2 * kThreads);
    REQUIRE(log->note(pcs) == log->size());
  }
}

constinit ModuleLog stormy_log;
std::array<Pc, 2> storm_pcs;

TEST_CASE("a signal handler may note modules in the middle of it") {
  give_room();
  storm_pcs = {own_code(), libc_code()};
  std::uint32_t unloads = 0;
  {
    test::SignalStorm storm([] {
      stormy_log.on_unload();
      stormy_log.note(storm_pcs);
    });
    for (; !storm.is_over(); ++unloads) {
      stormy_log.on_unload();
      stormy_log.note(storm_pcs);
    }
  }
  CHECK(stormy_log.size() <= 4);  // each module at most once by the thread and once by a handler in between
  for (std::uint32_t i = 0; i < stormy_log.size(); ++i) REQUIRE(stormy_log.at(i) != nullptr);
}

}  // namespace
}  // namespace profagent::safe
