// /metrics. The text form of OpenMetrics 1.0, kept to what Prometheus' older parser reads as well: gauges and
// counters only.
#include <string>
#include <string_view>

#include "agent/service/routes_pages.h"
#include "encoder/utf8.h"

namespace profagent::service {

namespace {

constexpr std::string_view kPrefix = "profagent_";

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '\n') {
      result += "\\n";
      continue;
    }
    if (c == '\\' || c == '"') result += '\\';
    result += c;
  }
  return result;
}

void add_head(std::string& page, const std::string& family, std::string_view type, std::string_view help) {
  page += "# TYPE " + family + " ";
  page += type;
  page += '\n';
  for (const std::string_view unit : {"bytes", "seconds", "nanoseconds"}) {
    if (family.ends_with("_" + std::string(unit)))
      page += "# UNIT " + family + " " + std::string(unit) + "\n";
  }
  page += "# HELP " + family + " " + escaped(help) + "\n";
}

void add_number(std::string& page, const Fact& fact) {
  const auto* value = std::get_if<std::int64_t>(&fact.value);
  if (value == nullptr || fact.metric == Metric::kNone) return;
  const bool is_counter = fact.metric == Metric::kCounter;
  const std::string section = fact.section == "counters" ? std::string() : fact.section + "_";
  const std::string family = std::string(kPrefix) + section + fact.name;
  add_head(page, family, is_counter ? "counter" : "gauge", fact.help);
  page += family + (is_counter ? "_total " : " ") + std::to_string(*value) + "\n";
}

// The facts that are texts and tell which agent this is, as labels.
void add_build(std::string& page, const std::vector<Fact>& facts) {
  std::string labels;
  for (const Fact& fact : facts) {
    const auto* text = std::get_if<std::string>(&fact.value);
    if (text == nullptr || fact.section != "agent") continue;
    labels += labels.empty() ? "" : ",";
    labels += fact.name + "=\"" + escaped(encoder::to_utf8(*text)) + "\"";
  }
  const std::string family = std::string(kPrefix) + "build";
  add_head(page, family, "gauge", "always 1; which agent this is, and in which program");
  page += family + "{" + labels + "} 1\n";
}

template <typename Value>
void add_profiles(std::string& page, const Site& site, std::string_view name, std::string_view help,
                  Value value) {
  const std::string family = std::string(kPrefix) + "profile_" + std::string(name);
  add_head(page, family, "gauge", help);
  for (const auto& source : site.profiles) {
    page += family + "{profile=\"" + escaped(source->kind().name) + "\"} ";
    page += std::to_string(value(*source)) + "\n";
  }
}

}  // namespace

std::string metrics_text(const Site& site, const std::vector<Fact>& facts) {
  std::string page;
  add_build(page, facts);
  for (const Fact& fact : facts) add_number(page, fact);
  add_profiles(page, site, "records", "what a profile has at the moment, in records",
               [](ProfileSource& source) { return source.count(); });
  add_profiles(page, site, "ready", "0 when there is a reason why a profile is empty, which the index tells",
               [](ProfileSource& source) { return source.is_ready() ? 1 : 0; });
  page += "# EOF\n";
  return page;
}

}  // namespace profagent::service
