#include "agent/follow_settings.h"

#include <cstddef>
#include <cstdint>

#include "agent/safe/arena.h"
#include "agent/safe/contention_recorder.h"
#include "agent/safe/heap_recorder.h"
#include "agent/safe/lock_waiters.h"
#include "agent/safe/settings.h"
#include "hooks/memory.h"

namespace profagent {

void follow_settings(bool has_heap_profile) noexcept {
  safe::arena.set_limit(static_cast<std::size_t>(safe::settings.max_memory.load(std::memory_order_relaxed)));
  const auto rate =
      static_cast<std::uint64_t>(safe::settings.mem_profile_rate.load(std::memory_order_relaxed));
  if (!has_heap_profile || rate == safe::heap_recorder.rate()) return;
  hooks::watch_frees();
  safe::heap_recorder.set_rate(rate);
}

void follow_contention_settings() noexcept {
  const std::int64_t fraction = safe::settings.mutex_profile_fraction.load(std::memory_order_relaxed);
  safe::ContentionLabels labels = safe::contention_labels();
  const bool needs_waiters = fraction != 0 || labels.holders;
  const bool has_waiters = !needs_waiters || safe::lock_waiters.prepare();
  labels.holders = labels.holders && has_waiters;
  safe::contention_recorder.set_labels(labels);
  safe::contention_recorder.set_block_rate(safe::settings.block_profile_rate.load(std::memory_order_relaxed));
  safe::contention_recorder.set_mutex_fraction(has_waiters ? fraction : 0);
}

}  // namespace profagent
