// The JSON answers. The only file that includes the JSON library.
#include <charconv>
#include <cstdint>

#include <nlohmann/json.hpp>

#include "agent/service/routes_pages.h"

namespace profagent::service {

namespace {

// Keeps the order that the fields were written in.
using Json = nlohmann::ordered_json;

std::string dump(const Json& json) {
  // What came from outside (a path, a setting) may be any bytes: replaced, not an exception.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

template <typename Variant>
Json to_json(const Variant& value) {
  return std::visit([](const auto& alternative) { return Json(alternative); }, value);
}

std::string to_text(const Fact& fact) {
  const Json json = to_json(fact.value);
  return json.is_string() ? json.get<std::string>()
                          : json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::vector<SettingChange> parse_changes(std::string_view body) {
  const Json json = Json::parse(body, nullptr, false);
  if (!json.is_object())
    throw BadRequest("the body must be a JSON object such as {\"block_profile_rate\": 1}");
  std::vector<SettingChange> changes;
  for (const auto& [name, value] : json.items()) {
    const bool fits =
        value.is_number_integer() && (!value.is_number_unsigned() || value.get<std::uint64_t>() <= INT64_MAX);
    if (value.is_string()) {
      changes.push_back({name, value.get<std::string>()});
    } else if (fits) {
      changes.push_back({name, value.get<std::int64_t>()});
    } else {
      throw BadRequest(name + ": must be an integer, or a word where the setting has words");
    }
  }
  return changes;
}

std::string config_json(const std::vector<SettingView>& settings) {
  Json rows = Json::array();
  for (const SettingView& setting : settings) {
    Json row;
    row["name"] = setting.name;
    row["environment"] = setting.environment;
    row["current"] = to_json(setting.current);
    row["default"] = to_json(setting.default_value);
    row["min"] = setting.min ? Json(*setting.min) : Json();
    row["max"] = setting.max ? Json(*setting.max) : Json();
    if (!setting.choices.empty()) row["choices"] = setting.choices;
    row["live"] = setting.live;
    row["source"] = setting.source;
    if (!setting.problem.empty()) row["problem"] = setting.problem;
    row["help"] = setting.help;
    rows.push_back(std::move(row));
  }
  Json page;
  page["settings"] = std::move(rows);
  return dump(page);
}

std::string deadlock_json(const DeadlockReport& report) {
  const auto hex = [](std::uintptr_t number) {
    char digits[16];
    return "0x" + std::string(std::begin(digits),
                              std::to_chars(std::begin(digits), std::end(digits), number, 16).ptr);
  };
  const auto thread_json = [&](const DeadlockReport::Thread& thread) {
    const LockWait& wait = thread.wait;
    Json frames = Json::array();
    for (const DeadlockReport::Frame& frame : thread.stack) {
      frames.push_back({{"address", hex(frame.pc)},
                        {"function", frame.function},
                        {"offset", frame.offset},
                        {"file", frame.file}});
    }
    return Json{{"tid", wait.waiter},
                {"name", thread.name},
                {"waits_for",
                 {{"kind", safe::text_of(wait.kind)},
                  {"address", hex(wait.object)},
                  {"has_time_limit", wait.futex.is_timed}}},
                {"holder", {{"tid", wait.holder}, {"name", thread.holder_name}}},
                {"stack", std::move(frames)}};
  };
  const auto threads_json = [&](const std::vector<DeadlockReport::Thread>& threads) {
    Json rows = Json::array();
    for (const DeadlockReport::Thread& thread : threads) rows.push_back(thread_json(thread));
    return rows;
  };
  Json page;
  page["deadlock"] = !report.cycles.empty() || !report.abandoned.empty();
  page["cycles"] = Json::array();
  for (const DeadlockReport::Cycle& cycle : report.cycles) {
    page["cycles"].push_back({{"threads", threads_json(cycle.threads)}, {"behind", cycle.behind}});
  }
  page["abandoned_locks"] = Json::array();
  for (const DeadlockReport::Abandoned& lock : report.abandoned) {
    page["abandoned_locks"].push_back({{"threads", threads_json(lock.threads)}});
  }
  page["chains"] = Json::array();
  for (const DeadlockReport::Chain& chain : report.chains) {
    page["chains"].push_back({{"head", {{"tid", chain.head}, {"name", chain.name}}},
                              {"behind", chain.behind},
                              {"threads", threads_json(chain.threads)}});
  }
  if (!report.obstacle.empty()) page["obstacle"] = report.obstacle;
  return dump(page);
}

std::string facts_json(const std::vector<Fact>& facts) {
  Json page = Json::object();
  for (const Fact& fact : facts) {
    Json& section = fact.section.empty() ? page : page[fact.section];
    section[fact.name] = to_json(fact.value);
  }
  return dump(page);
}

std::string facts_text(const std::vector<Fact>& facts) {
  std::string text;
  for (const Fact& fact : facts) {
    std::string key = fact.section;
    if (!key.empty()) key += '.';
    key += fact.name + ": ";
    if (const auto* lines = std::get_if<std::vector<std::string>>(&fact.value)) {
      for (const std::string& line : *lines) {
        text += key;
        text += line;
        text += '\n';
      }
    } else {
      text += key;
      text += to_text(fact);
      text += '\n';
    }
  }
  return text;
}

}  // namespace profagent::service
