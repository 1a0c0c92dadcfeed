// The heap profile: /debug/pprof/heap, and allocs, which is the same with another default column.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/service/routes.h"
#include "agent/service/symbol_sources.h"

namespace profagent::service {

// `coverage` says what of the process the profile sees, or why there is none; it must outlive the sources,
// as must `symbols`.
[[nodiscard]] std::vector<std::unique_ptr<ProfileSource>> make_heap_sources(SymbolSources& symbols,
                                                                            std::string coverage,
                                                                            bool available);

}  // namespace profagent::service
