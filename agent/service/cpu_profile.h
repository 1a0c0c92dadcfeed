// The CPU profile: /debug/pprof/profile.
#pragma once

#include <memory>

#include "agent/service/cpu_sampler.h"
#include "agent/service/routes.h"
#include "agent/service/symbol_sources.h"

namespace profagent::service {

// Both must outlive the source.
[[nodiscard]] std::unique_ptr<ProfileSource> make_cpu_source(SymbolSources& symbols, CpuSampler& sampler);

}  // namespace profagent::service
