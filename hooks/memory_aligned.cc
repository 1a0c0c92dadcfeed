// The rest of the family that allocates. Rare enough to be written plainly; any of them may be built on
// another one, which `Composed` takes care of.
#include "hooks/export.h"
#include "hooks/memory.h"
#include "hooks/real.h"

namespace profagent::hooks {

namespace {

// What pvalloc really allocates: whole pages.
std::size_t whole_pages(std::size_t size) {
  constexpr std::size_t kPageSize = 4096;
  return (size + kPageSize - 1) & ~(kPageSize - 1);
}

}  // namespace

extern "C" {

PROFAGENT_EXPORT void* reallocarray(void* block, std::size_t count, std::size_t size) {
  std::size_t bytes = 0;
  if (__builtin_mul_overflow(count, size, &bytes)) return real::reallocarray(block, count, size);
  const bool due = safe::HeapRecorder::is_due(bytes);
  const std::uintptr_t caller = safe::caller_frame().sp;
  return reallocate_recorded(block, bytes, due, [&] {
    Composed composed(caller);
    return real::reallocarray(block, count, size);
  });
}

PROFAGENT_EXPORT int posix_memalign(void** block, std::size_t alignment, std::size_t size) {
  int result = 0;
  allocate_composed(size, [&]() -> void* {
    result = real::posix_memalign(block, alignment, size);
    return result == 0 ? *block : nullptr;
  });
  return result;
}

PROFAGENT_EXPORT void* aligned_alloc(std::size_t alignment, std::size_t size) {
  return allocate_composed(size, [&] { return real::aligned_alloc(alignment, size); });
}

PROFAGENT_EXPORT void* memalign(std::size_t alignment, std::size_t size) {
  return allocate_composed(size, [&] { return real::memalign(alignment, size); });
}

PROFAGENT_EXPORT void* valloc(std::size_t size) {
  return allocate_composed(size, [&] { return real::valloc(size); });
}

PROFAGENT_EXPORT void* pvalloc(std::size_t size) {
  return allocate_composed(whole_pages(size), [&] { return real::pvalloc(size); });
}

}  // extern "C"

}  // namespace profagent::hooks
