// Where all threads stand: /debug/pprof/goroutine, also as /debug/pprof/threads.
#pragma once

#include <memory>

#include "agent/service/routes.h"
#include "agent/service/symbol_sources.h"
#include "agent/service/thread_snapshot.h"

namespace profagent::service {

// Both must outlive the source.
[[nodiscard]] std::unique_ptr<ProfileSource> make_threads_source(SymbolSources& symbols, ThreadWatch& watch);

}  // namespace profagent::service
