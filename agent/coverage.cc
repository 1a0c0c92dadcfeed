#include "agent/coverage.h"

#include <cstring>

#include <link.h>
#include <valgrind/valgrind.h>

#include "agent/safe/arena.h"
#include "agent/safe/elf_lookup.h"

namespace profagent {

namespace {

// The four that every program needs; allocator and freer of one block must be in the same object.
constexpr const char* kFamily[] = {"malloc", "calloc", "realloc", "free"};

struct Sanitizer {
  const char* symbol;
  const char* name;
};
constexpr Sanitizer kSanitizers[] = {{"__asan_init", "AddressSanitizer"},
                                     {"__tsan_init", "ThreadSanitizer"},
                                     {"__msan_init", "MemorySanitizer"}};

const char* base_name(const link_map& object) {
  if (object.l_name == nullptr || *object.l_name == '\0') return "the executable";
  const char* slash = std::strrchr(object.l_name, '/');
  return slash == nullptr ? object.l_name : slash + 1;
}

// `format` with one or two %s, kept for ever.
const char* sentence(const char* format, const char* first, const char* second = "") {
  constexpr std::size_t kMaxBytes = 512;
  auto* text = static_cast<char*>(safe::arena.allocate(kMaxBytes));
  if (text == nullptr) return format;
  // Not snprintf: at load, before libc's own constructors, nothing of stdio is promised.
  std::size_t used = 0;
  const char* parts[] = {first, second};
  std::size_t next = 0;
  for (const char* at = format; *at != '\0' && used + 1 < kMaxBytes; ++at) {
    if (at[0] != '%' || at[1] != 's') {
      text[used++] = *at;
      continue;
    }
    ++at;
    for (const char* part = parts[next < 2 ? next++ : 1]; *part != '\0' && used + 1 < kMaxBytes; ++part) {
      text[used++] = *part;
    }
  }
  text[used] = '\0';
  return text;
}

// Valgrind tools that replace malloc (memcheck, massif, dhat, …) preload an object of their own besides the
// core's; callgrind and cachegrind do not.
bool valgrind_replaces_malloc() {
  if (RUNNING_ON_VALGRIND == 0) return false;
  for (const link_map* object = safe::first_object(); object != nullptr; object = object->l_next) {
    const char* name = base_name(*object);
    if (std::strstr(name, "vgpreload_") != nullptr && std::strstr(name, "vgpreload_core") == nullptr)
      return true;
  }
  return false;
}

}  // namespace

HeapCoverage find_heap_coverage() noexcept {
  const link_map* own = safe::own_object();
  if (own == nullptr)
    return {false, "malloc: the agent was loaded into a namespace of its own, heap profile unavailable"};
  if (valgrind_replaces_malloc()) return {false, "malloc: replaced by Valgrind, heap profile unavailable"};
  for (const Sanitizer& sanitizer : kSanitizers) {
    if (safe::find_definer(safe::first_object(), sanitizer.symbol) != nullptr) {
      return {false, sentence("malloc: replaced by %s, heap profile unavailable", sanitizer.name)};
    }
  }
  for (const char* name : kFamily) {
    const link_map* first = safe::find_definer(safe::first_object(), name);
    if (first != own) {
      return {false, sentence("%s: defined by %s before the agent, heap profile unavailable", name,
                              first == nullptr ? "nobody" : base_name(*first))};
    }
  }
  const link_map* allocator = safe::find_definer(own->l_next, kFamily[0]);
  if (allocator == nullptr) return {false, "malloc: not found, heap profile unavailable"};
  for (const char* name : kFamily) {
    const link_map* definer = safe::find_definer(own->l_next, name);
    if (definer != allocator) {
      return {false,
              sentence("malloc and %s are defined by different objects, heap profile unavailable", name)};
    }
  }
  return {true, sentence("malloc: %s, hooked", base_name(*allocator))};
}

}  // namespace profagent
