// What the agent says of itself, to people and to Prometheus; and what nobody gets out of it.
#include <algorithm>
#include <filesystem>
#include <map>
#include <regex>
#include <string>
#include <thread>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "test/support/cpu.h"
#include "test/support/kinds.h"
#include "test/support/programs.h"

using namespace profagent::test;
using Json = nlohmann::json;

namespace {

Json agent_page(Victim& victim) {
  return Json::parse(victim.get("/debug/pprof/agent").body);
}

// The samples of /metrics: "name{labels}" to value.
std::map<std::string, double> metrics(Victim& victim) {
  std::map<std::string, double> result;
  static const std::regex sample("(?:^|\n)([a-z][^ \n]*(?:\\{[^\n]*\\})?) ([0-9.e+]+)(?=\n)");
  const std::string page = victim.get("/metrics").body;
  for (std::sregex_iterator it(page.begin(), page.end(), sample), end; it != end; ++it)
    result[(*it)[1]] = std::stod((*it)[2]);
  return result;
}

// Every page there is, profiles unzipped.
std::map<std::string, std::string> all_pages(Victim& victim) {
  std::map<std::string, std::string> pages;
  const std::string index = victim.get("/debug/pprof/").body;
  pages["/debug/pprof/"] = index;
  static const std::regex link("<a href='([^'?]+)\\?debug=1'>");
  std::vector<std::string> targets = {"/metrics", "/pprof/heap", "/pprof/contention", "/pprof/symbol?0x1"};
  for (std::sregex_iterator it(index.begin(), index.end(), link), end; it != end; ++it) {
    const std::string name = (*it)[1];
    const bool takes_time = std::any_of(std::begin(kTimedKinds), std::end(kTimedKinds),
                                        [&](const TimedKind& kind) { return kind.name == name; });
    targets.push_back("/debug/pprof/" + name + (takes_time ? "?seconds=1" : ""));
    if (!takes_time) targets.push_back("/debug/pprof/" + name + "?debug=1");
  }
  for (const std::string& target : targets) {
    const std::string body = victim.get(target).body;
    pages[target] = body.compare(0, 2, "\x1f\x8b") == 0 ? gunzip(body) : body;
  }
  return pages;
}

}  // namespace

TEST_CASE("the agent's page names the process, its addresses and its allocator") {
  Victim victim("leak", {}, {{"PROFAGENT_STACK_DEPTH", "none"}});
  const Json page = agent_page(victim);
  CHECK(page["service"]["pid"] == victim.process().pid());
  CHECK(page["agent"]["program"] == "leak");
  CHECK_FALSE(page["agent"]["version"].get<std::string>().empty());
  CHECK(std::abs(page["agent"]["start_time_seconds"].get<std::int64_t>() - time(nullptr)) < 600);
  const std::vector<std::string> listeners = page["service"]["listeners"];
  CHECK(listeners == std::vector<std::string>{"127.0.0.1:" + std::to_string(victim.port()),
                                              "unix://" + victim.socket_path()});
  CHECK(page["coverage"]["heap"] == "malloc: libc.so.6, hooked");
  CHECK(page["coverage"]["running_threads"] == "asked for their stacks by signal 23");
  CHECK(page["signals"]["clients"] == 23);
  CHECK(page["problems"]["PROFAGENT_STACK_DEPTH"] == "\"none\" is not a valid value; the default is used");
  for (const char* table :
       {"stacks", "heap_rows", "block_rows", "mutex_rows", "cpu_rows", "modules", "threads"}) {
    CAPTURE(table);
    const auto size = page["tables"][table].get<std::int64_t>();
    CHECK(size <= page["tables"][std::string(table) + "_limit"].get<std::int64_t>());
  }
  CHECK(page["memory"]["recorders_mapped_bytes"] > 0);
  CHECK(page["memory"]["held_bytes"] > 0);
  for (const auto& [name, value] : page["counters"].items()) CHECK(value.is_number_integer());
  // The same as text, a line for each fact.
  const Response text = victim.get("/debug/pprof/agent?format=text");
  CHECK(text.header("content-type") == "text/plain; charset=utf-8");
  CHECK(text.body.find("coverage.heap: malloc: libc.so.6, hooked\n") != std::string::npos);
}

TEST_CASE("coverage says in words why there is no heap profile") {
  Victim victim("own_malloc");
  const Json page = agent_page(victim);
  const std::string sentence = "malloc: defined by the executable before the agent, heap profile unavailable";
  CHECK(page["coverage"]["heap"] == sentence);
  CHECK(page["profiles"]["heap"] == sentence);
  CHECK(page["profiles"]["block"].get<std::string>().find("off: ") == 0);
  CHECK(page["profiles"]["goroutine"] == "on");
  CHECK(metrics(victim).at("profagent_profile_ready{profile=\"heap\"}") == 0);
}

TEST_CASE("a profile's state, its timers and its signal are those of now") {
  Victim victim("idle_threads");
  CHECK(agent_page(victim)["profiles"]["mutex"].get<std::string>().find("off: ") == 0);
  CHECK(metrics(victim).at("profagent_profile_ready{profile=\"mutex\"}") == 0);
  REQUIRE(victim
              .request({.method = "PUT",
                        .target = "/debug/pprof/config",
                        .headers = {{"Content-Type", "application/json"}},
                        .body = R"({"mutex_profile_fraction": 4})"})
              .status == 200);
  CHECK(agent_page(victim)["profiles"]["mutex"] == "on");
  CHECK(metrics(victim).at("profagent_profile_ready{profile=\"mutex\"}") == 1);
  CHECK(metrics(victim).at("profagent_contention_mutex_fraction") == 4);
  CHECK(metrics(victim).at("profagent_cpu_timers") == 0);
  InBackground request(victim, "/debug/pprof/profile?seconds=3&hz=250");
  CHECK(eventually([&] { return metrics(victim).at("profagent_cpu_timers") == 11; }));
  CHECK(metrics(victim).at("profagent_cpu_rate") == 250);
  CHECK(agent_page(victim)["signals"]["cpu"] == 27);
  CHECK(request.response().status == 200);
  CHECK(metrics(victim).at("profagent_cpu_timers") == 0);
}

TEST_CASE("a profile that is being taken is ready for the next request") {
  Victim victim("idle_threads");
  Connection connection(victim.unix_address());
  connection.send(to_bytes({.target = "/debug/pprof/wall?seconds=60"}));
  REQUIRE(eventually([&] { return agent_page(victim)["profiles"]["wall"] == "running"; }));
  CHECK(metrics(victim).at("profagent_profile_ready{profile=\"wall\"}") == 1);
}

TEST_CASE("what is lost is counted for people and for Prometheus alike") {
  // Deeper than is kept: a truncation for each block.
  Victim victim("deep", {"100"}, {{"PROFAGENT_MEM_PROFILE_RATE", "1"}, {"PROFAGENT_STACK_DEPTH", "20"}});
  const Json counters = agent_page(victim)["counters"];
  CHECK(counters["stacks_truncated"] == 2);
  const std::map<std::string, double> shown = metrics(victim);
  for (const auto& [name, value] : counters.items()) {
    CAPTURE(name);
    CHECK(shown.at("profagent_" + name + "_total") == value.get<double>());
  }
}

TEST_CASE("metrics are OpenMetrics, and Prometheus' older parser agrees", "[M]") {
  Victim victim("leak", {}, kEverything);
  const Response answer = victim.get_tcp("/metrics");
  CHECK(answer.status == 200);
  CHECK(answer.header("content-type") == "application/openmetrics-text; version=1.0.0; charset=utf-8");
  const std::string& page = answer.body;
  CHECK(page.substr(page.size() - 6) == "# EOF\n");
  const TempDir dir;
  write_text(dir.file("page"), page);
  // Debian's Python has Debian's package, whatever other Python the machine has.
  if (run({"/usr/bin/python3", "-c", "import prometheus_client"}).exit_code != 0) {
    WARN("left out: python3-prometheus-client is not installed");
    return;
  }
  const Outcome parsed = run({"/usr/bin/python3", "-c", R"(
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_new
from prometheus_client.parser import text_string_to_metric_families as parse_old
text = open(sys.argv[1]).read()
families = list(parse_new(text))
new = {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}
old = {(s.name, tuple(sorted(s.labels.items()))): s.value for f in parse_old(text) for s in f.samples}
assert new == old, set(new.items()) ^ set(old.items())
assert len(new) > 50
for family in families:
    assert family.name.startswith('profagent_'), family.name
    assert family.type in ('gauge', 'counter'), family
    assert len(family.documentation) > 8, family
    assert family.unit in ('', 'bytes', 'seconds', 'nanoseconds'), family
    assert family.name.endswith(family.unit)
    for sample in family.samples:
        assert sample.name == family.name + ('_total' if family.type == 'counter' else ''), sample
print('good')
)",
                              dir.file("page")});
  CHECK(parsed.err.empty());
  CHECK(parsed.out == "good\n");
}

TEST_CASE("metrics are for those who may ask, like everything else", "[J1][J2]") {
  Victim victim("leak");
  for (const char* target : {"/metrics", "/pprof/heap", "/debug/pprof/agent", "/debug/pprof/config"}) {
    CAPTURE(target);
    const Response refused =
        http(victim.tcp_address(), {.target = target, .headers = {{"Host", "evil.com"}}});
    CHECK(refused.status == 403);
    CHECK(refused.body.find("http://localhost/") != std::string::npos);
    for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS"}) {
      const Response answer = victim.request({.method = method, .target = target});
      CHECK((answer.status == 405 || answer.status == 415));
      CHECK_FALSE(answer.has("access-control-allow-origin"));
    }
  }
}

TEST_CASE("no page tells what the environment or the memory of the program has", "[J5]") {
  const TempDir dir;
  const std::string token = "token-of-1234567890";
  write_text(dir.file("token"), token + "\n");
  std::filesystem::permissions(dir.file("token"), std::filesystem::perms::owner_read);
  Environment environment = kEverything;
  environment["DATABASE_PASSWORD"] = "swordfish-in-the-environment";
  environment["PROFAGENT_ALLOW_REMOTE"] = "1";
  environment["PROFAGENT_TOKEN_FILE"] = dir.file("token");
  Victim victim("leak", {}, environment);
  victim.command("swordfish-in-memory");
  const auto pages = all_pages(victim);
  CHECK(pages.size() > 20);
  for (const auto& [target, body] : pages) {
    CAPTURE(target);
    for (const std::string secret : {"swordfish", "DATABASE_PASSWORD", token.c_str()})
      CHECK(body.find(secret) == std::string::npos);
  }
}

TEST_CASE("what a request says starts no program and writes no file", "[J4]") {
  Victim victim("leak");
  const std::string pid = std::to_string(victim.process().pid());
  // A profile name, a file name and an option for a shell, where something might take them.
  for (const std::string evil : {"$(touch%20/tmp/profagent-pwned)", "%60touch%20/tmp/profagent-pwned%60",
                                 ";touch%20/tmp/profagent-pwned", "..%2F..%2Ftmp%2Fprofagent-pwned",
                                 "/tmp/profagent-pwned", "%0Atouch%20/tmp/profagent-pwned"}) {
    for (const std::string before :
         {"/debug/pprof/", "/debug/pprof/heap?debug=", "/debug/pprof/heap?seconds=",
          "/debug/pprof/heap?file=", "/debug/pprof/profile?seconds=1&hz=",
          "/debug/pprof/profile?seconds=1&format=", "/debug/pprof/block?labels=", "/debug/pprof/symbol?",
          "/pprof/profile?seconds=1&hz=", "/debug/pprof/agent?format="}) {
      const Response answer = victim.get(before + evil);
      CAPTURE(before + evil);
      CHECK(answer.status < 500);
    }
  }
  CHECK_FALSE(std::filesystem::exists("/tmp/profagent-pwned"));
  for (const pid_t tid : threads_of(victim.process().pid()))
    CHECK(read_text("/proc/" + pid + "/task/" + std::to_string(tid) + "/children").empty());
}

TEST_CASE("many requests at once share what they cost", "[J11]") {
  Victim victim("leak", {}, kEverything);
  for (const std::string seconds : {"3601", "99999", "9223372036854775807", "99999999999999999999"}) {
    CAPTURE(seconds);
    for (const char* kind : {"heap", "block", "mutex", "goroutine"})
      CHECK(victim.get("/debug/pprof/" + std::string(kind) + "?seconds=" + seconds).status == 400);
  }
  CHECK(victim.get("/debug/pprof/profile?seconds=3601").status == 400);
  std::vector<std::unique_ptr<InBackground>> requests;
  for (int i = 0; i < 40; ++i) {
    requests.push_back(std::make_unique<InBackground>(
        victim, i % 2 == 0 ? "/debug/pprof/profile?seconds=8" : "/debug/pprof/heap?seconds=8"));
  }
  for (auto& request : requests) CHECK(request->response().status == 200);
  // 64 MiB is what a program may notice; these take a few.
  CHECK(agent_number(victim, "peak_held_bytes") < 64 << 20);
  CHECK(timer_count(victim.process().pid()) <= 0);
}
