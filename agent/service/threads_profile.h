// Where all threads stand: /debug/pprof/goroutine, also as /debug/pprof/threads.
#pragma once

#include <memory>

#include "agent/service/routes.h"
#include "agent/service/symbols.h"
#include "agent/service/thread_snapshot.h"

namespace profagent::service {

// Both must outlive the source.
[[nodiscard]] std::unique_ptr<ProfileSource> make_threads_source(Symbolizer& symbolizer, ThreadWatch& watch);

}  // namespace profagent::service
