// /debug/pprof/deadlock: threads that wait for each other in a circle, locks whose holder has ended, and who
// holds up the most others. On our thread only.
//
// Two looks with a pause between: what is shown has lasted from one to the other. A circle is shown only when
// there was a moment at which all of its waits held (held_together()), so it is never a false one.
#pragma once

#include <cstddef>

#include "agent/service/deadlock_report.h"
#include "agent/service/lock_waits.h"
#include "agent/service/symbol_sources.h"

namespace profagent::service {

class DeadlockSearch {
 public:
  static constexpr std::size_t kMostChains = 10;
  static constexpr std::size_t kMostThreads = 20;  // of a chain, or of those that wait for an abandoned lock

  // The first look. `symbols` must outlive the search.
  explicit DeadlockSearch(SymbolSources& symbols);

  // The second one.
  [[nodiscard]] DeadlockReport finish();

 private:
  SymbolSources& symbols_;
  LockWaits first_;
};

}  // namespace profagent::service
