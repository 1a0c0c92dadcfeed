// jemalloc's extended API, for programs linked with libjemalloc.so that call it directly.
#include "hooks/export.h"
#include "hooks/memory.h"
#include "hooks/real.h"

namespace profagent::hooks {

extern "C" {

PROFAGENT_EXPORT void* mallocx(std::size_t size, int flags) {
  return allocate_composed(size, [&] { return real::mallocx(size, flags); });
}

PROFAGENT_EXPORT void* rallocx(void* block, std::size_t size, int flags) {
  const bool due = safe::HeapRecorder::is_due(size);
  const std::uintptr_t caller = safe::caller_frame().sp;
  return reallocate_recorded(block, size, due, [&] {
    Composed composed(caller);
    return real::rallocx(block, size, flags);
  });
}

PROFAGENT_EXPORT void dallocx(void* block, int flags) {
  if (may_be_sampled(block)) [[unlikely]]
    safe::heap_recorder.on_free(block);
  real::dallocx(block, flags);
}

PROFAGENT_EXPORT void sdallocx(void* block, std::size_t size, int flags) {
  if (may_be_sampled(block)) [[unlikely]]
    safe::heap_recorder.on_free(block);
  real::sdallocx(block, size, flags);
}

}  // extern "C"

}  // namespace profagent::hooks
