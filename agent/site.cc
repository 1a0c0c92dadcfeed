#include "agent/site.h"

#include <memory>
#include <utility>

#include "agent/safe/settings.h"
#include "agent/service/contention_profile.h"
#include "agent/service/cpu_profile.h"
#include "agent/service/creation_profile.h"
#include "agent/service/deadlock.h"
#include "agent/service/heap_profile.h"
#include "agent/service/modules.h"
#include "agent/service/symbol_sources.h"
#include "agent/service/symbol_wish.h"
#include "agent/service/threads_profile.h"
#include "agent/service/wall_profile.h"

namespace profagent {

namespace {

// Whatever a request has its way with at the moment.
std::vector<service::RequestedSetting> requested_settings(const service::ContentionRates& rates) {
  std::vector<service::RequestedSetting> requested;
  if (const auto rate = rates.requested(service::ContentionKind::kBlock))
    requested.push_back({"block_profile_rate", *rate});
  if (const auto rate = rates.requested(service::ContentionKind::kMutex))
    requested.push_back({"mutex_profile_fraction", *rate});
  const std::int64_t hertz = service::cpu_rate();
  if (hertz != 0 && hertz != safe::settings.cpu_profile_rate.load(std::memory_order_relaxed))
    requested.push_back({"cpu_profile_rate", hertz});
  return requested;
}

}  // namespace

service::Site make_site(SiteParts parts) {
  // What the site's parts share lives as long as the last of them.
  struct Shared {
    explicit Shared(SiteParts& parts)
        : info(std::move(parts.info)),
          cpu_sampler(parts.filters_at_load),
          thread_watch(info.asking_signal, parts.filters_at_load),
          wall_sampler(info.asking_signal, parts.filters_at_load) {}
    service::AgentInfo info;
    service::SymbolSources symbols;
    service::CpuSampler cpu_sampler;
    service::ContentionRates contention_rates;
    service::ThreadWatch thread_watch;
    service::WallSampler wall_sampler;
  };
  auto shared = std::make_shared<Shared>(parts);

  service::Site site;
  site.profiles =
      service::make_heap_sources(shared->symbols, shared->info.heap_coverage, shared->info.heap_available);
  site.profiles.push_back(service::make_cpu_source(shared->symbols, shared->cpu_sampler));
  for (auto& source : service::make_contention_sources(shared->symbols, shared->contention_rates)) {
    site.profiles.push_back(std::move(source));
  }
  site.profiles.push_back(service::make_creation_source(shared->symbols));
  site.profiles.push_back(service::make_threads_source(shared->symbols, shared->thread_watch));
  site.profiles.push_back(service::make_wall_source(shared->symbols, shared->wall_sampler));
  site.cmdline = std::move(parts.cmdline);
  site.symbol_names = [shared](std::span<const std::uintptr_t> pcs) {
    if (service::usual_symbol_detail() == service::SymbolDetail::kNone)
      return std::vector<std::string>(pcs.size());
    const auto modules = service::ModuleSet::now({});
    std::vector<std::string> names;
    names.reserve(pcs.size());
    for (const service::ResolvedPc& resolved : shared->symbols.symbolizer.resolve(modules, pcs)) {
      names.push_back(resolved.found ? resolved.symbol->system_name : std::string());
    }
    return names;
  };
  site.settings = [shared] { return service::setting_views(requested_settings(shared->contention_rates)); };
  site.change_settings = [shared,
                          follow = parts.follow_settings](std::span<const service::SettingChange> changes) {
    std::string problem = service::change_settings(shared->info, changes);
    if (!problem.empty()) return problem;
    // More memory first: the others may need it.
    follow();
    shared->contention_rates.update();
    return problem;
  };
  site.facts = [shared, service_facts = std::move(parts.service_facts)] {
    std::vector<service::Fact> facts = service_facts();
    const std::vector<service::Fact> more = service::agent_facts(shared->info);
    facts.insert(facts.end(), more.begin(), more.end());
    return facts;
  };
  site.look_for_deadlocks = [shared] {
    auto search = std::make_shared<service::DeadlockSearch>(shared->symbols);
    return [search] { return search->finish(); };
  };
  site.tend = [shared] { return shared->symbols.source_lines.tend(); };
  site.access =
      service::parse_allowed_uids(safe::settings.allow_uids.load(std::memory_order_relaxed), nullptr);
  site.access.bearer_token = std::move(parts.token);
  return site;
}

}  // namespace profagent
