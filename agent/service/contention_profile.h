// The profiles of waiting: /debug/pprof/block (who waited, and how long) and /debug/pprof/mutex (whom the
// others waited for).
#pragma once

#include <memory>
#include <vector>

#include "agent/service/contention_rates.h"
#include "agent/service/routes.h"
#include "agent/service/symbol_sources.h"

namespace profagent::service {

// Both must outlive the sources.
[[nodiscard]] std::vector<std::unique_ptr<ProfileSource>> make_contention_sources(SymbolSources& symbols,
                                                                                  ContentionRates& rates);

}  // namespace profagent::service
