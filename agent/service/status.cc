#include "agent/service/status.h"

#include "agent/safe/arena.h"
#include "agent/safe/counters.h"
#include "agent/safe/cpu_buckets.h"
#include "agent/safe/cpu_recorder.h"
#include "agent/safe/cpu_signal.h"
#include "agent/safe/cpu_timers.h"
#include "agent/safe/heap_buckets.h"
#include "agent/safe/heap_recorder.h"
#include "agent/safe/module_log.h"
#include "agent/safe/settings.h"
#include "agent/safe/stack_table.h"
#include "agent/safe/threads.h"
#include "agent/service/own_memory.h"

namespace profagent::service {

namespace {

std::string problem_of(std::string_view variable) {
  for (std::size_t i = 0; i < safe::setting_problem_count(); ++i) {
    const safe::SettingProblem& problem = safe::setting_problem(i);
    if (problem.variable == variable) {
      return std::string("\"") + problem.value + "\" is not a valid value; the default is used";
    }
  }
  return {};
}

std::string source_of(std::string_view variable) {
  return safe::was_set(variable) ? "environment" : "default";
}

SettingView number_view(std::string_view name, std::string_view variable, std::int64_t current,
                        std::int64_t initial, std::int64_t minimum, std::int64_t maximum,
                        std::string_view help) {
  return {.name = std::string(name),
          .environment = std::string(variable),
          .current = current,
          .default_value = initial,
          .min = minimum,
          .max = maximum,
          .source = source_of(variable),
          .problem = problem_of(variable),
          .help = std::string(help)};
}

SettingView text_view(std::string_view name, std::string_view variable, std::string_view current,
                      std::string_view help) {
  return {.name = std::string(name),
          .environment = std::string(variable),
          .current = std::string(current),
          .default_value = std::string(),
          .min = {},
          .max = {},
          .source = source_of(variable),
          .problem = problem_of(variable),
          .help = std::string(help)};
}

}  // namespace

std::vector<SettingView> setting_views() {
  std::vector<SettingView> views;
#define PROFAGENT_NUMBER(name, variable, initial, minimum, maximum, help)                                    \
  views.push_back(number_view(#name, variable, safe::settings.name.load(std::memory_order_relaxed), initial, \
                              minimum, maximum, help));
#define PROFAGENT_TEXT(name, variable, help) \
  views.push_back(text_view(#name, variable, safe::settings.name.load(std::memory_order_relaxed), help));
#include "agent/safe/settings.def"
#undef PROFAGENT_NUMBER
#undef PROFAGENT_TEXT
  return views;
}

std::vector<Fact> agent_facts(const AgentInfo& info) {
  const auto number = [](auto value) { return static_cast<std::int64_t>(value); };
  std::vector<Fact> facts;
  facts.push_back({"agent", "version", std::string(PROFAGENT_VERSION)});
  facts.push_back({"agent", "program", info.program});
  if (!info.listener_problems.empty())
    facts.push_back({"agent", "listener_problems", info.listener_problems});
  for (std::size_t i = 0; i < safe::setting_problem_count(); ++i) {
    const safe::SettingProblem& problem = safe::setting_problem(i);
    facts.push_back({"problems", problem.variable, problem_of(problem.variable)});
  }

  facts.push_back({"coverage", "heap", info.heap_coverage});

  facts.push_back({"heap", "rate", number(safe::heap_recorder.rate())});
  facts.push_back({"heap", "buckets", number(safe::heap_buckets.size())});
  const std::uint64_t period = safe::cpu_recorder.period();
  constexpr std::uint64_t kNanosPerSecond = 1'000'000'000;
  facts.push_back({"cpu", "running", period != 0});
  facts.push_back({"cpu", "rate", number(period == 0 ? 0 : kNanosPerSecond / period)});
  facts.push_back({"cpu", "timers", number(safe::cpu_timers.count())});
  facts.push_back({"cpu", "signal", number(safe::cpu_signal.number())});
  facts.push_back({"cpu", "buckets", number(safe::cpu_buckets.size())});
  facts.push_back({"tables", "stacks", number(safe::stack_table.size())});
  facts.push_back({"tables", "modules", number(safe::module_log.size())});
  facts.push_back({"tables", "threads", number(safe::threads.live())});

  facts.push_back({"memory", "recorders_mapped_bytes", number(safe::arena.mapped())});
  facts.push_back({"memory", "recorders_limit_bytes", number(safe::arena.limit())});
  const own_memory::Stats own = own_memory::stats();
  facts.push_back({"memory", "service_reserved_bytes", number(own.reserved)});
  facts.push_back({"memory", "service_held_bytes", number(own.held)});
  facts.push_back({"memory", "service_peak_held_bytes", number(own.peak_held)});
  facts.push_back({"memory", "service_in_use_bytes", number(own.in_use)});

  safe::for_each_counter([&](std::string_view name, std::string_view, std::uint64_t value) {
    facts.push_back({"counters", std::string(name), number(value)});
  });
  return facts;
}

}  // namespace profagent::service
