// What the agent tells about itself: its settings and its state. On our thread only.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "agent/service/routes.h"

namespace profagent::service {

// What the roof knows and nobody below it.
struct AgentInfo {
  std::string program;  // the executable's base name
  std::string heap_coverage;
  std::string listener_problems;
};

// Every setting of agent/safe/settings.def.
[[nodiscard]] std::vector<SettingView> setting_views();

// All of them, or none and the reason why not, in words for who sent them.
[[nodiscard]] std::string change_settings(std::span<const SettingChange> changes);

[[nodiscard]] std::vector<Fact> agent_facts(const AgentInfo& info);

}  // namespace profagent::service
