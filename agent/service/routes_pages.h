// The endpoints that routes.cc's table names. One function each; see routes.h.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/service/deadlock_report.h"
#include "agent/service/routes.h"

namespace profagent::service {

// An endpoint that is not a profile, as the index lists it.
struct PageView {
  std::string_view name;
  std::string_view sentence;
};

// /debug/pprof/: Go's table, then the state of each profile and commands to copy.
[[nodiscard]] std::string index_page(const Site& site, const Request& request,
                                     std::span<const PageView> pages);

// GET and POST /debug/pprof/symbol.
[[nodiscard]] Response symbol_page(const Site& site, const Request& request);

// A profile of one kind, now or over time.
[[nodiscard]] Answer profile_page(ProfileSource& source, const Request& request);

// The changes that the body of a PUT asks for: {"name": number or word, …}. Throws BadRequest.
[[nodiscard]] std::vector<SettingChange> parse_changes(std::string_view body);

// GET /debug/pprof/config.
[[nodiscard]] std::string config_json(const std::vector<SettingView>& settings);

// GET /debug/pprof/deadlock?format=json.
[[nodiscard]] std::string deadlock_json(const DeadlockReport& report);

// GET /debug/pprof/agent.
[[nodiscard]] std::string facts_json(const std::vector<Fact>& facts);
[[nodiscard]] std::string facts_text(const std::vector<Fact>& facts);

// GET /metrics: the facts that are metrics, and for each profile whether it records, in the text form of
// OpenMetrics, which is also valid for Prometheus.
[[nodiscard]] std::string metrics_text(const Site& site, const std::vector<Fact>& facts);
inline constexpr std::string_view kMetricsType = "application/openmetrics-text; version=1.0.0; charset=utf-8";

}  // namespace profagent::service
