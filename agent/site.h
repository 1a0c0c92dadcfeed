// Puts together what the service shows: the first floor's parts, with what the roof knows. On our thread
// only.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "agent/service/routes.h"
#include "agent/service/status.h"

namespace profagent {

struct SiteParts {
  service::AgentInfo info;
  std::function<std::vector<service::Fact>()> service_facts;
  // Brings into force what settings say that our thread does not look after.
  void (*follow_settings)() noexcept = nullptr;
  std::string cmdline;
  std::string token;  // that remote clients must show
  std::int64_t filters_at_load = -1;
};

// Throws std::bad_alloc.
[[nodiscard]] service::Site make_site(SiteParts parts);

}  // namespace profagent
