// Where all threads spend their time, running or not: /debug/pprof/wall, also as /debug/fgprof.
#pragma once

#include <memory>

#include "agent/service/routes.h"
#include "agent/service/symbol_sources.h"
#include "agent/service/wall_sampler.h"

namespace profagent::service {

// Both must outlive the source.
[[nodiscard]] std::unique_ptr<ProfileSource> make_wall_source(SymbolSources& symbols, WallSampler& sampler);

}  // namespace profagent::service
