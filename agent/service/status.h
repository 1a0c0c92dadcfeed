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
  std::string program;          // the executable's base name
  std::int64_t started_at = 0;  // when it was loaded into this process, in Unix seconds
  std::string heap_coverage;
  bool heap_available = false;
  int (*asking_signal)() noexcept = nullptr;  // see agent/wake.h
};

// What a request wants a setting to be as long as it lasts.
struct RequestedSetting {
  std::string_view name;
  std::int64_t value;
};

// Every setting of agent/safe/settings.def.
[[nodiscard]] std::vector<SettingView> setting_views(std::span<const RequestedSetting> requested);

// All of them, or none and the reason why not, in words for who sent them.
[[nodiscard]] std::string change_settings(const AgentInfo& info, std::span<const SettingChange> changes);

[[nodiscard]] std::vector<Fact> agent_facts(const AgentInfo& info);

// Samples per second of CPU time that are taken now; 0 while nobody asks for a profile.
[[nodiscard]] std::int64_t cpu_rate() noexcept;

}  // namespace profagent::service
