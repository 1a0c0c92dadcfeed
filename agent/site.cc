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
#include "agent/service/symbols.h"
#include "agent/service/threads_profile.h"
#include "agent/service/wall_profile.h"

namespace profagent {

service::Site make_site(SiteParts parts) {
  // What the site's parts share lives as long as the last of them.
  struct Shared {
    explicit Shared(SiteParts& parts)
        : info(std::move(parts.info)),
          cpu_sampler(parts.filters_at_load),
          thread_watch(parts.asking_signal, parts.filters_at_load),
          wall_sampler(parts.asking_signal, parts.filters_at_load) {}
    service::AgentInfo info;
    service::Symbolizer symbolizer;
    service::CpuSampler cpu_sampler;
    service::ContentionRates contention_rates;
    service::ThreadWatch thread_watch;
    service::WallSampler wall_sampler;
  };
  auto shared = std::make_shared<Shared>(parts);

  service::Site site;
  site.profiles =
      service::make_heap_sources(shared->symbolizer, shared->info.heap_coverage, parts.heap_available);
  site.profiles.push_back(service::make_cpu_source(shared->symbolizer, shared->cpu_sampler));
  for (auto& source : service::make_contention_sources(shared->symbolizer, shared->contention_rates)) {
    site.profiles.push_back(std::move(source));
  }
  site.profiles.push_back(service::make_creation_source(shared->symbolizer));
  site.profiles.push_back(service::make_threads_source(shared->symbolizer, shared->thread_watch));
  site.profiles.push_back(service::make_wall_source(shared->symbolizer, shared->wall_sampler));
  site.cmdline = std::move(parts.cmdline);
  site.symbol_names = [shared](std::span<const std::uintptr_t> pcs) {
    const auto modules = service::ModuleSet::now({});
    std::vector<std::string> names;
    names.reserve(pcs.size());
    for (const service::ResolvedPc& resolved : shared->symbolizer.resolve(modules, pcs)) {
      names.push_back(resolved.found ? resolved.symbol->system_name : std::string());
    }
    return names;
  };
  site.settings = service::setting_views;
  site.change_settings = [shared](std::span<const service::SettingChange> changes) {
    std::string problem = service::change_settings(changes);
    if (problem.empty()) shared->contention_rates.update();
    return problem;
  };
  site.facts = [shared, service_facts = std::move(parts.service_facts)] {
    std::vector<service::Fact> facts = service_facts();
    const std::vector<service::Fact> more = service::agent_facts(shared->info);
    facts.insert(facts.end(), more.begin(), more.end());
    return facts;
  };
  site.look_for_deadlocks = [shared] {
    auto search = std::make_shared<service::DeadlockSearch>(shared->symbolizer);
    return [search] { return search->finish(); };
  };
  site.access =
      service::parse_allowed_uids(safe::settings.allow_uids.load(std::memory_order_relaxed), nullptr);
  return site;
}

}  // namespace profagent
