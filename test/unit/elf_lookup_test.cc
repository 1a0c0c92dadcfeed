// Linked with -rdynamic and -Wl,--hash-style=sysv, so that this executable has only the old kind of hash
// table (and exports); libc has the new kind.
#include "agent/safe/elf_lookup.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <set>
#include <string>

#include <dlfcn.h>
#include <time.h>

extern "C" {
int elf_lookup_test_function() {
  return 4711;
}
int elf_lookup_test_data = 1;
}

namespace profagent::safe {
namespace {

const link_map* object_named(const char* part) {
  for (const link_map* object = first_object(); object != nullptr; object = object->l_next) {
    if (std::strstr(object->l_name, part) != nullptr) return object;
  }
  return nullptr;
}

bool has_entry(const link_map& object, ElfW(Sxword) tag) {
  for (const ElfW(Dyn)* entry = object.l_ld; entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == tag) return true;
  }
  return false;
}

// What the loader says that this one object defines.
void* by_loader(const link_map& object, const char* name) {
  void* handle = dlopen(object.l_name, RTLD_LAZY | RTLD_NOLOAD);
  void* found = handle == nullptr ? nullptr : dlsym(handle, name);
  if (handle != nullptr) dlclose(handle);
  return found;
}

TEST_CASE("the first object is the executable, and here also our own") {
  REQUIRE(first_object() != nullptr);
  CHECK(std::string(first_object()->l_name).empty());
  CHECK(own_object() == first_object());
}

TEST_CASE("libc's functions are where the loader finds them") {
  const link_map* libc = object_named("/libc.so");
  REQUIRE(libc != nullptr);
  REQUIRE(has_entry(*libc, DT_GNU_HASH));
  // Plain ones; memcpy, pthread_cond_wait and others with an old version besides; strlen and memcpy choose by
  // processor.
  for (const char* name : {"malloc",
                           "calloc",
                           "realloc",
                           "free",
                           "reallocarray",
                           "posix_memalign",
                           "aligned_alloc",
                           "memalign",
                           "valloc",
                           "pvalloc",
                           "pthread_create",
                           "dlclose",
                           "memcpy",
                           "strlen",
                           "pthread_cond_wait",
                           "pthread_cond_timedwait",
                           "pthread_cond_signal",
                           "nanosleep",
                           "regexec",
                           "posix_spawn",
                           "timer_create",
                           "sem_wait",
                           "fmemopen",
                           "_exit"}) {
    INFO(name);
    void* expected = by_loader(*libc, name);
    REQUIRE(expected != nullptr);
    CHECK(find_function(*libc, name) == expected);
  }
}

TEST_CASE("an old version is taken when there is no other") {
  const link_map* libc = object_named("/libc.so");
  REQUIRE(libc != nullptr);
  void* old = dlvsym(RTLD_DEFAULT, "cfree", "GLIBC_2.2.5");
  REQUIRE(old != nullptr);
  CHECK(find_function(*libc, "cfree") == old);
}

TEST_CASE("what an object does not define is not found in it") {
  const link_map* libc = object_named("/libc.so");
  REQUIRE(libc != nullptr);
  for (const char* name : {"", "mallo", "malloc2", "no_such_function", "mallocx"}) {
    INFO(name);
    CHECK(find_function(*libc, name) == nullptr);
  }
  CHECK(find_function(*libc, "environ") == nullptr);  // data
  CHECK(find_function(*libc, "elf_lookup_test_function") == nullptr);
  CHECK(find_function(*libc, "__tls_get_addr") == nullptr);  // used there, defined by the loader
}

TEST_CASE("an object with nothing but the old hash table is searched by it") {
  const link_map* own = own_object();
  REQUIRE(own != nullptr);
  REQUIRE_FALSE(has_entry(*own, DT_GNU_HASH));
  REQUIRE(has_entry(*own, DT_HASH));
  CHECK(find_function(*own, "elf_lookup_test_function") ==
        reinterpret_cast<void*>(&elf_lookup_test_function));
  CHECK(find_function(*own, "elf_lookup_test_data") == nullptr);
  CHECK(find_function(*own, "elf_lookup_test_functio") == nullptr);
  CHECK(find_function(*own, "dlopen") == nullptr);  // used here, defined by libc
}

TEST_CASE("the vDSO, whose tables the loader cannot relocate") {
  const link_map* vdso = object_named("linux-vdso");
  REQUIRE(vdso != nullptr);
  void* found = find_function(*vdso, "__vdso_clock_gettime");
  REQUIRE(found != nullptr);
  timespec before{};
  timespec now{};
  REQUIRE(clock_gettime(CLOCK_MONOTONIC, &before) == 0);
  REQUIRE(reinterpret_cast<int (*)(clockid_t, timespec*)>(found)(CLOCK_MONOTONIC, &now) == 0);
  CHECK((now.tv_sec - before.tv_sec) * 1'000'000'000 + now.tv_nsec >= before.tv_nsec);
  CHECK(find_function(*vdso, "malloc") == nullptr);
}

TEST_CASE("every object can be searched, the loader itself included") {
  std::set<std::string> seen;
  for (const link_map* object = first_object(); object != nullptr; object = object->l_next) {
    CHECK(find_function(*object, "no_such_function") == nullptr);
    seen.insert(object->l_name);
  }
  CHECK(seen.size() >= 4);
  const link_map* loader = object_named("ld-linux");
  REQUIRE(loader != nullptr);
  CHECK(find_function(*loader, "_dl_mcount") == dlsym(RTLD_DEFAULT, "_dl_mcount"));
}

TEST_CASE("the definer is the first in the list from where one asks") {
  const link_map* libc = object_named("/libc.so");
  CHECK(find_definer(first_object(), "malloc") != nullptr);
  CHECK(find_definer(libc, "fmemopen") == libc);
  CHECK(find_definer(first_object(), "elf_lookup_test_function") == first_object());
  CHECK(find_definer(first_object()->l_next, "elf_lookup_test_function") == nullptr);
  CHECK(find_definer(first_object(), "no_such_function") == nullptr);
  CHECK(find_definer(nullptr, "malloc") == nullptr);
}

TEST_CASE("what objects were linked with is needed, what is preloaded is not") {
  CHECK(is_needed(*object_named("/libc.so")));
  CHECK(is_needed(*object_named("ld-linux")));
  CHECK_FALSE(is_needed(*first_object()));
  CHECK_FALSE(is_needed(*object_named("vdso")));
}

}  // namespace
}  // namespace profagent::safe
