// /debug/pprof/threadcreate: where threads were created, and with ?live=1 where those that still exist were.
#pragma once

#include <memory>

#include "agent/service/routes.h"
#include "agent/service/symbol_sources.h"

namespace profagent::service {

// `symbolizer` must outlive the source.
[[nodiscard]] std::unique_ptr<ProfileSource> make_creation_source(SymbolSources& symbols);

}  // namespace profagent::service
