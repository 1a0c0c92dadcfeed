#include "agent/service/status.h"

#include <utility>

#include "agent/safe/arena.h"
#include "agent/safe/contention_buckets.h"
#include "agent/safe/contention_recorder.h"
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
  if (safe::was_changed(variable)) return "PUT";
  return safe::was_set(variable) ? "environment" : "default";
}

SettingView view_of(std::string_view name, std::string_view variable, std::string_view help) {
  return {.name = std::string(name),
          .environment = std::string(variable),
          .current = std::string(),
          .default_value = std::string(),
          .min = {},
          .max = {},
          .source = source_of(variable),
          .problem = problem_of(variable),
          .help = std::string(help),
          .choices = {}};
}

SettingView number_view(SettingView view, std::int64_t current, std::int64_t initial, std::int64_t minimum,
                        std::int64_t maximum) {
  view.current = current;
  view.default_value = initial;
  view.min = minimum;
  view.max = maximum;
  return view;
}

SettingView choice_view(SettingView view, std::int64_t current, std::string_view words) {
  for (std::int64_t i = 0; i <= safe::last_choice(words); ++i)
    view.choices.emplace_back(safe::choice_at(words, i));
  view.current = std::string(safe::choice_at(words, current));
  view.default_value = view.choices.front();
  return view;
}

SettingView text_view(SettingView view, std::string_view current) {
  view.current = std::string(current);
  return view;
}

std::string list_of(std::string_view words) {
  std::string list;
  for (std::int64_t i = 0; i <= safe::last_choice(words); ++i) {
    list += list.empty() ? "\"" : ", \"";
    list += safe::choice_at(words, i);
    list += '"';
  }
  return list;
}

// The value as the settings keep it. The reason why not, after the name, in `problem`.
std::int64_t to_number(const SettingChange& change, std::string& problem) {
  const std::string_view words = safe::choices_of(change.name);
  const auto* text = std::get_if<std::string>(&change.value);
  if (words.empty()) {
    if (text != nullptr) problem = "must be an integer";
    return text != nullptr ? 0 : std::get<std::int64_t>(change.value);
  }
  const std::int64_t choice = text == nullptr ? -1 : safe::choice_of(words, *text);
  if (choice < 0) problem = "must be one of " + list_of(words);
  return choice;
}

// Why the change cannot be made; empty when it can.
std::string problem_with(const AgentInfo& info, const SettingChange& change) {
  std::string problem;
  const std::int64_t value = to_number(change, problem);
  safe::Bounds bounds{};
  switch (safe::can_change(change.name, value, bounds)) {
    case safe::ChangeResult::kUnknown:
      return "there is no such setting; GET /debug/pprof/config lists them";
    case safe::ChangeResult::kNotLive:
      return "cannot be changed while the program runs";
    case safe::ChangeResult::kOutOfBounds:
      if (problem.empty())
        problem = "must be from " + std::to_string(bounds.minimum) + " to " + std::to_string(bounds.maximum);
      break;
    case safe::ChangeResult::kDone:
      break;
  }
  if (problem.empty() && change.name == "mem_profile_rate" && value != 0 && !info.heap_available)
    problem = info.heap_coverage;
  return problem;
}

Fact number(std::string section, std::string name, std::uint64_t value, Metric metric = Metric::kNone,
            std::string_view help = {}) {
  return {std::move(section), std::move(name), static_cast<std::int64_t>(value), metric, help};
}

Fact gauge(std::string section, std::string name, std::uint64_t value, std::string_view help) {
  return number(std::move(section), std::move(name), value, Metric::kGauge, help);
}

// How full a table is that never gives anything back.
void add_fill(std::vector<Fact>& facts, const std::string& table, std::size_t size, std::size_t limit,
              std::string_view help) {
  facts.push_back(gauge("tables", table, size, help));
  facts.push_back(gauge("tables", table + "_limit", limit, "the most that there is room for"));
}

}  // namespace

std::vector<SettingView> setting_views(std::span<const RequestedSetting> requested) {
  std::vector<SettingView> views;
#define PROFAGENT_NUMBER(name, variable, initial, minimum, maximum, help)                            \
  views.push_back(number_view(view_of(#name, variable, help),                                        \
                              safe::settings.name.load(std::memory_order_relaxed), initial, minimum, \
                              maximum));
#define PROFAGENT_LIVE_NUMBER(name, variable, initial, minimum, maximum, help) \
  PROFAGENT_NUMBER(name, variable, initial, minimum, maximum, help)            \
  views.back().live = true;
#define PROFAGENT_LIVE_CHOICE(name, variable, words, help)                                  \
  views.push_back(choice_view(view_of(#name, variable, help),                               \
                              safe::settings.name.load(std::memory_order_relaxed), words)); \
  views.back().live = true;
#define PROFAGENT_TEXT(name, variable, help) \
  views.push_back(                           \
      text_view(view_of(#name, variable, help), safe::settings.name.load(std::memory_order_relaxed)));
#include "agent/safe/settings.def"
#undef PROFAGENT_NUMBER
#undef PROFAGENT_TEXT
  for (const RequestedSetting& setting : requested) {
    for (SettingView& view : views) {
      if (view.name != setting.name) continue;
      view.current = setting.value;
      view.source = "request";
    }
  }
  return views;
}

std::string change_settings(const AgentInfo& info, std::span<const SettingChange> changes) {
  for (const SettingChange& change : changes) {
    if (const std::string problem = problem_with(info, change); !problem.empty())
      return change.name + ": " + problem;
  }
  std::string problem;
  for (const SettingChange& change : changes) safe::change(change.name, to_number(change, problem));
  return {};
}

std::vector<Fact> agent_facts(const AgentInfo& info) {
  std::vector<Fact> facts;
  facts.push_back({"agent", "version", std::string(PROFAGENT_VERSION)});
  facts.push_back({"agent", "program", info.program});
  facts.push_back(gauge("agent", "start_time_seconds", static_cast<std::uint64_t>(info.started_at),
                        "when the agent was loaded, in Unix time"));
  for (std::size_t i = 0; i < safe::setting_problem_count(); ++i) {
    const safe::SettingProblem& problem = safe::setting_problem(i);
    facts.push_back({"problems", problem.variable, problem_of(problem.variable)});
  }

  facts.push_back({"coverage", "heap", info.heap_coverage});
  const int asking_signal = info.asking_signal == nullptr ? 0 : info.asking_signal();
  facts.push_back({"coverage", "running_threads",
                   asking_signal == 0
                       ? std::string("cannot be asked for their stacks: the program uses SIGURG and SIGCONT")
                       : "asked for their stacks by signal " + std::to_string(asking_signal)});

  facts.push_back(gauge("heap", "rate_bytes", safe::heap_recorder.rate(),
                        "mean bytes between two samples of the heap, 0 when it is not sampled"));
  facts.push_back(gauge("contention", "block_rate_nanoseconds",
                        static_cast<std::uint64_t>(safe::contention_recorder.block_rate()),
                        "the rate of the block profile, 0 when it is off"));
  facts.push_back(gauge("contention", "mutex_fraction",
                        static_cast<std::uint64_t>(safe::contention_recorder.mutex_fraction()),
                        "one contended unlock in so many is recorded, 0 when none is"));
  facts.push_back({"cpu", "running", safe::cpu_recorder.is_running()});
  facts.push_back(gauge("cpu", "rate", static_cast<std::uint64_t>(cpu_rate()),
                        "samples per second of CPU time, 0 while nobody asks"));
  facts.push_back(gauge("cpu", "timers", safe::cpu_timers.count(), "timers of threads that are sampled"));
  facts.push_back(number("signals", "clients", static_cast<std::uint64_t>(asking_signal)));
  facts.push_back(number("signals", "cpu", static_cast<std::uint64_t>(safe::cpu_signal.number())));

  add_fill(facts, "stacks", safe::stack_table.size(), safe::StackTable::kMaxStacks, "different stacks");
  add_fill(facts, "heap_rows", safe::heap_buckets.size(), safe::kMaxHeapBuckets,
           "rows of the heap profile: stack, size and rate");
  add_fill(facts, "block_rows", safe::block_buckets.size(), safe::kMaxContentionBuckets,
           "rows of the block profile");
  add_fill(facts, "mutex_rows", safe::mutex_buckets.size(), safe::kMaxContentionBuckets,
           "rows of the mutex profile");
  add_fill(facts, "cpu_rows", safe::cpu_buckets.size(), safe::kMaxCpuBuckets, "rows of the CPU profile");
  add_fill(facts, "modules", safe::module_log.size(), safe::ModuleLog::kMaxModules,
           "executables and libraries seen in stacks");
  add_fill(facts, "threads", safe::threads.live(), safe::Threads::kMaxThreads, "threads that are known");

  facts.push_back(gauge("memory", "recorders_mapped_bytes", safe::arena.mapped(),
                        "address space taken by what records, touched as it fills"));
  facts.push_back(
      gauge("memory", "recorders_limit_bytes", safe::arena.limit(), "the most that what records may take"));

  safe::for_each_counter([&](std::string_view name, std::string_view sentence, std::uint64_t value) {
    facts.push_back(number("counters", std::string(name), value, Metric::kCounter, sentence));
  });
  return facts;
}

std::int64_t cpu_rate() noexcept {
  const auto period = static_cast<safe::Nanos>(safe::cpu_recorder.period());
  return period == 0 ? 0 : (safe::kNanosPerSecond + period / 2) / period;
}

}  // namespace profagent::service
