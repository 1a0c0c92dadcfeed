// What of this process the heap profile can see. Never half-profiled: when one function of the malloc family
// would go past our hooks, the profile is off and says so.
#pragma once

#include <string_view>

namespace profagent {

struct HeapCoverage {
  bool available = false;
  // "malloc: libjemalloc.so.2, hooked" or why not; a static or immortal text.
  const char* sentence = "";
};

// Called once at load.
[[nodiscard]] HeapCoverage find_heap_coverage() noexcept;

}  // namespace profagent
