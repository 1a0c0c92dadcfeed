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
  bool heap_available = false;
  std::string cmdline;
  std::int64_t filters_at_load = -1;
  int (*asking_signal)() noexcept = nullptr;  // see agent/wake.h
};

// Throws std::bad_alloc.
[[nodiscard]] service::Site make_site(SiteParts parts);

}  // namespace profagent
