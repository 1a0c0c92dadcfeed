// The profile kinds whose rules every test loops over. A new kind is one more row here.
#pragma once

#include <string>

#include "test/support/process.h"

namespace profagent::test {

struct SnapshotKind {
  std::string name;
  // A victim that has something to show by the time it is ready, under kEverything, and a function of it that
  // is in the profile then.
  const char* victim;
  const char* shown;
  // How its debug=1 begins.
  const char* text_head;
  // Its period, as `pprof -raw` prints it.
  const char* period_type;

  operator const std::string&() const { return name; }  // NOLINT(google-explicit-constructor)
};

// Answered at once, and as a difference with ?seconds=N.
inline const SnapshotKind kSnapshotKinds[] = {
    {"heap", "namespaced", "shop::store", "heap profile: ", "space bytes"},
    {"allocs", "namespaced", "shop::store", "heap profile: ", "space bytes"},
    {"block", "wait_cancel", "contends_later", "--- contention:\ncycles/second=", "contentions count"},
    {"threadcreate", "thread_makers", "leaks_threads", "threadcreate profile: total ", "threadcreate count"},
    {"mutex", "wait_cancel", "gives_back_later", "--- mutex:\ncycles/second=", "contentions count"},
    {"goroutine", "namespaced", "main", "goroutine profile: ", "goroutine count"},
};
// Always collected over ?seconds=N. The period is that of 100 samples a second.
struct TimedKind {
  std::string name;
  const char* period_type;
};
inline const TimedKind kTimedKinds[] = {{"profile", "cpu nanoseconds"}, {"wall", "wall nanoseconds"}};
// Those that say what memory is for.
inline constexpr const char* kHeapKinds[] = {"heap", "allocs"};

// Every event is recorded.
inline const Environment kEverything = {{"PROFAGENT_MEM_PROFILE_RATE", "1"},
                                        {"PROFAGENT_BLOCK_PROFILE_RATE", "1"},
                                        {"PROFAGENT_MUTEX_PROFILE_FRACTION", "1"}};

}  // namespace profagent::test
