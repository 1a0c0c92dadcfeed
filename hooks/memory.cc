// malloc, calloc, realloc, free: the four whose fast path counts. Each is a subtract (or a byte load), a
// branch and a jump; what is rare lives in the *_slow functions, which are jumped to, so that their caller is
// the program's call.
#include "hooks/memory.h"

#include "agent/safe/events.h"
#include "hooks/export.h"
#include "hooks/real.h"

namespace profagent::hooks {

namespace {

void free_unwatched(void* block) {
  real::free(block);
}

[[gnu::noinline]] void free_slow(void* block) {
  safe::heap_recorder.on_free(block);
  real::free(block);
}

void free_watched(void* block) {
  if (may_be_sampled(block)) [[unlikely]]
    return free_slow(block);
  return real::free(block);
}

// While nothing was ever sampled free() must cost no more than one extra jump, so it goes through a pointer
// of its own: to the real free, or to the one that looks.
using FreeFunction = void (*)(void*);
constinit FreeFunction free_entry = free_unwatched;

[[gnu::noinline]] void* malloc_slow(std::size_t size) {
  void* block = real::malloc(size);
  record_allocation(block, size, safe::caller_frame());
  return block;
}

[[gnu::noinline]] void* calloc_slow(std::size_t count, std::size_t size) {
  void* block = real::calloc(count, size);
  record_allocation(block, count * size, safe::caller_frame());
  return block;
}

[[gnu::noinline]] void* realloc_slow(void* block, std::size_t size, bool due) {
  return reallocate_recorded(block, size, due, [&] { return real::realloc(block, size); });
}

// Here because this is where a program passes by now and then, outside of its allocator.
void do_deferred() {
  const safe::SafeSection keeps_errno;
  if (safe::events.is_deferred.exchange(false, std::memory_order_relaxed)) safe::raise(safe::events.deferred);
}

}  // namespace

void watch_frees() noexcept {
  __atomic_store_n(&free_entry, &free_watched, __ATOMIC_RELEASE);
}

void leave_frees_alone() noexcept {
  __atomic_store_n(&free_entry, real::free, __ATOMIC_RELEASE);
}

void record_allocation(void* block, std::size_t size, const safe::StartFrame& caller) noexcept {
  {
    safe::SafeSection section(caller.sp);
    if (!section) return safe::heap_recorder.pass_over(size);
    const std::uint64_t rate = safe::heap_recorder.wants(size);
    if (rate != 0 && block != nullptr) safe::heap_recorder.on_alloc(block, size, rate, caller);
  }
  if (safe::events.is_deferred.load(std::memory_order_relaxed)) [[unlikely]] {
    if (safe::may_ask_kernel()) do_deferred();
  }
}

extern "C" {

PROFAGENT_EXPORT(malloc)
void* malloc(std::size_t size) {
  if (safe::HeapRecorder::is_due(size)) [[unlikely]]
    return malloc_slow(size);
  return real::malloc(size);
}

PROFAGENT_EXPORT(calloc)
void* calloc(std::size_t count, std::size_t size) {
  std::size_t bytes = 0;
  // What overflows cannot be allocated: the real function says so.
  if (__builtin_mul_overflow(count, size, &bytes)) [[unlikely]]
    return real::calloc(count, size);
  if (safe::HeapRecorder::is_due(bytes)) [[unlikely]]
    return calloc_slow(count, size);
  return real::calloc(count, size);
}

PROFAGENT_EXPORT(realloc)
void* realloc(void* block, std::size_t size) {
  const bool due = safe::HeapRecorder::is_due(size);
  if (due || may_be_sampled(block)) [[unlikely]]
    return realloc_slow(block, size, due);
  return real::realloc(block, size);
}

PROFAGENT_EXPORT(free)
void free(void* block) {
  return free_entry(block);
}

}  // extern "C"

}  // namespace profagent::hooks
