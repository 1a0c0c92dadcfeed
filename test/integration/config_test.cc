// /debug/pprof/config: everything that can change while a program runs does, at once, all or nothing; what
// cannot says why.
#include <map>
#include <regex>
#include <set>
#include <string>

#include <sys/stat.h>
#include <unistd.h>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "test/support/cpu.h"
#include "test/support/victim.h"

using namespace profagent::test;
using Json = nlohmann::json;

namespace {

std::map<std::string, Json> settings_of(const std::string& page) {
  std::map<std::string, Json> rows;
  const Json parsed = Json::parse(page);
  for (const Json& row : parsed["settings"]) rows[row["name"]] = row;
  return rows;
}

Json setting(Victim& victim, const std::string& name) {
  return settings_of(victim.get("/debug/pprof/config").body).at(name);
}

// The PUT's own answer already shows it.
void change(Victim& victim, const std::string& name, const Json& value) {
  CAPTURE(name, value.dump());
  const Response answer = victim.put_config(Json{{name, value}}.dump());
  REQUIRE(answer.status == 200);
  CHECK(answer.header("content-type") == "application/json");
  const Json row = settings_of(answer.body).at(name);
  CHECK(row["current"] == value);
  CHECK(row["source"] == "PUT");
}

std::int64_t fact(Victim& victim, const std::string& section, const std::string& name) {
  return Json::parse(victim.get("/debug/pprof/agent").body)[section][name].get<std::int64_t>();
}

}  // namespace

TEST_CASE("every setting is shown with its value, default, bounds, source and a sentence") {
  Victim victim("leak", {}, {{"PROFAGENT_STACK_DEPTH", "77"}, {"PROFAGENT_LOG_FILE", "/nosuch/x"}});
  const auto rows = settings_of(victim.get("/debug/pprof/config").body);
  CHECK(rows.size() >= 14);
  for (const auto& [name, row] : rows) {
    CAPTURE(name);
    for (const char* field : {"environment", "current", "default", "min", "max", "live", "source", "help"})
      CHECK(row.contains(field));
    CHECK(row["current"].type() == row["default"].type());
    CHECK(row["help"].get<std::string>().size() > 10);
    // What cannot be changed says why.
    const bool says_why = row["help"].get<std::string>().find("fixed: ") != std::string::npos;
    CHECK(says_why != row["live"].get<bool>());
    if (row.contains("choices")) CHECK(row["default"] == row["choices"][0]);
  }
  std::set<std::string> fixed;
  for (const auto& [name, row] : rows)
    if (!row["live"].get<bool>()) fixed.insert(name);
  CHECK(fixed ==
        std::set<std::string>{"addr", "allow_remote", "allow_uids", "log_file", "programs", "token_file"});
  CHECK(rows.at("stack_depth")["current"] == 77);
  CHECK(rows.at("stack_depth")["default"] == 128);
  CHECK(rows.at("stack_depth")["source"] == "environment");
  CHECK(rows.at("log")["current"] == "silent");
  CHECK(rows.at("log")["source"] == "default");
}

TEST_CASE("a PUT that cannot be done entirely changes nothing, and its error names the setting") {
  Victim victim("leak", {}, {{"PROFAGENT_BLOCK_PROFILE_RATE", "7"}});
  const std::string before = victim.get("/debug/pprof/config").body;
  const std::string good = R"({"block_profile_rate": 1, "mutex_profile_fraction": 1, "stack_depth": 3, )";
  const std::pair<const char*, const char*> wrong[] = {
      {R"("mem_profile_rate": -1})", "mem_profile_rate: must be from 0 to 1099511627776"},
      {R"("mem_profile_rate": 1099511627777})", "mem_profile_rate: must be from 0 to 1099511627776"},
      {R"("cpu_profile_rate": 0})", "cpu_profile_rate: must be from 1 to 1000"},
      {R"("cpu_profile_rate": 1.5})", "cpu_profile_rate: must be an integer"},
      {R"("cpu_profile_rate": 18446744073709551615})", "cpu_profile_rate: must be an integer"},
      {R"("cpu_profile_rate": "100"})", "cpu_profile_rate: must be an integer"},
      {R"("cpu_profile_rate": null})", "cpu_profile_rate: must be an integer"},
      {R"("log": "loud"})", R"(log: must be one of "silent", "error", "info", "debug")"},
      {R"("log": 1})", R"(log: must be one of)"},
      {R"("log_file": "/etc/x"})", "log_file: cannot be changed while the program runs"},
      {R"("addr": ":0"})", "addr: cannot be changed"},
      {R"("allow_uids": "*"})", "allow_uids: cannot be changed"},
      {R"("nosuch": 1})", "nosuch: there is no such setting"},
      {R"("": 1})", ": there is no such setting"},
  };
  for (const auto& [rest, message] : wrong) {
    CAPTURE(rest);
    const Response answer = victim.put_config(good + rest);
    CHECK(answer.status == 400);
    CHECK(answer.header("x-go-pprof") == "1");
    CHECK(answer.body.find(message) == 0);
  }
  for (const char* body : {"", "1", "[]", "{", "{\"stack_depth\": 1} x", "null"}) {
    CAPTURE(body);
    CHECK(victim.put_config(body).status == 400);
  }
  for (const char* type : {"", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"}) {
    CAPTURE(type);
    CHECK(victim.put_config(R"({"stack_depth": 3})", type).status == 415);
  }
  CHECK(victim.get("/debug/pprof/config").body == before);
  CHECK(victim.put_config(R"({"stack_depth": 3})", "application/json; charset=utf-8").status == 200);
}

TEST_CASE("no GET changes a setting", "[J3]") {
  Victim victim("leak");
  const std::string before = victim.get("/debug/pprof/config").body;
  for (const char* target :
       {"/debug/pprof/config?block_profile_rate=1", "/debug/pprof/config?name=block_profile_rate&value=1",
        "/debug/pprof/block?rate=1", "/debug/pprof/", "/debug/pprof/agent?block_profile_rate=1",
        "/debug/pprof/heap?rate=1", "/metrics?block_profile_rate=1"}) {
    CAPTURE(target);
    victim.get(target);
    CHECK(victim.get("/debug/pprof/config").body == before);
  }
  const Response with_body = victim.request({.method = "GET",
                                             .target = "/debug/pprof/config",
                                             .headers = {{"Content-Type", "application/json"}},
                                             .body = R"({"block_profile_rate": 1})"});
  CHECK(victim.get("/debug/pprof/config").body == before);
}

TEST_CASE("the heap profile is switched on and off, and what was counted stays true") {
  Victim victim("leak", {}, {{"PROFAGENT_MEM_PROFILE_RATE", "0"}});
  CHECK(victim.profile().total("alloc_objects").in("leaky") == 0);
  CHECK(victim.get("/debug/pprof/").body.find("heap: off: PROFAGENT_MEM_PROFILE_RATE is 0") !=
        std::string::npos);
  change(victim, "mem_profile_rate", 1);
  // A thread looks again within a MiB of allocations: that is one block here.
  victim.command("leak");
  CHECK(victim.profile().total("inuse_space").in("leaky") == 1999993);
  change(victim, "mem_profile_rate", 0);
  victim.command("leak");
  CHECK(victim.profile().total("inuse_space").in("leaky") == 1999993);
  // Off, but what was sampled is still followed to its end.
  victim.command("forget");
  const Profile after = victim.profile();
  CHECK(after.total("inuse_space").in("leaky") == 0);
  CHECK(after.total("alloc_space").in("leaky") == 1999993);
}

TEST_CASE("a new heap rate leaves the old samples as they are, and no cumulative value falls") {
  Victim victim("leak", {"--times", "10"}, {{"PROFAGENT_MEM_PROFILE_RATE", "1"}});
  std::int64_t last = victim.profile().total("alloc_space").in("leaky");
  CHECK(last == 10 * 1999993);
  std::int64_t rows = fact(victim, "tables", "heap_rows");
  for (const std::int64_t rate : {1000, 1000000, 1, 2}) {
    change(victim, "mem_profile_rate", rate);
    CHECK(fact(victim, "heap", "rate_bytes") == rate);
    for (int i = 0; i < 10; ++i) victim.command("leak");
    const Profile heap = victim.profile();
    CHECK(heap.total("alloc_space").in("leaky") >= last);
    CHECK(heap.total("inuse_space").in("leaky") == heap.total("alloc_space").in("leaky"));
    last = heap.total("alloc_space").in("leaky");
    // Every rate has rows of its own: old samples keep their weights.
    CHECK(fact(victim, "tables", "heap_rows") > rows - (rate == 1 ? 1 : 0));
    rows = fact(victim, "tables", "heap_rows");
  }
  // At rates up to 1000 bytes a block of two million is sampled for certain and stands for itself.
  CHECK(last >= 40 * std::int64_t{1999993});
}

TEST_CASE("where the heap cannot be profiled, no rate is taken, and the reason is told") {
  Victim victim("own_malloc", {}, {});
  const Response answer = victim.put_config(R"({"mem_profile_rate": 1})");
  CHECK(answer.status == 400);
  CHECK(answer.body.find("mem_profile_rate: malloc: defined by the executable before the agent, heap profile "
                         "unavailable") == 0);
  CHECK(victim.put_config(R"({"mem_profile_rate": 0})").status == 200);
}

TEST_CASE("stacks are cut where the setting says from then on") {
  Victim victim("leak", {}, {{"PROFAGENT_MEM_PROFILE_RATE", "1"}});
  const auto depths = [&] {
    std::set<std::size_t> result;
    for (const Sample& sample : victim.profile().in("leaky")) result.insert(sample.stack.size());
    return result;
  };
  const std::set<std::size_t> whole = depths();
  REQUIRE(whole.size() == 1);
  REQUIRE(*whole.begin() > 2);
  change(victim, "stack_depth", 2);
  victim.command("leak");
  CHECK(depths() == std::set<std::size_t>{2, *whole.begin()});
  change(victim, "stack_depth", 1);
  victim.command("leak");
  victim.command("leak");
  CHECK(depths() == std::set<std::size_t>{1, 2, *whole.begin()});
  // And back: what the walker remembers of shorter walks does not shorten the next.
  change(victim, "stack_depth", 512);
  victim.command("leak");
  const Profile heap = victim.profile();
  std::int64_t blocks = 0;
  for (const Sample& sample : heap.in("leaky"))
    if (sample.stack.size() == *whole.begin()) blocks += sample.values[2];
  CHECK(blocks == 2);
}

TEST_CASE("the log says more when it is told to, and only its owner reads it", "[J8]") {
  const TempDir dir;
  const std::string log = dir.file("log");
  umask(0);
  Victim victim("leak", {}, {{"PROFAGENT_LOG_FILE", log}});
  umask(022);
  CHECK(access(log.c_str(), F_OK) != 0);
  change(victim, "log", "info");
  CHECK(read_text(log).find("profagent[" + std::to_string(victim.process().pid()) + "]: ") == 0);
  struct stat status {};
  REQUIRE(stat(log.c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0600);
  const std::string so_far = read_text(log);
  change(victim, "log", "silent");
  change(victim, "stack_depth", 100);
  CHECK(read_text(log) == so_far);
}

TEST_CASE("the bound of the recorders' memory is moved") {
  Victim victim("leak");
  change(victim, "max_memory", 16777216);
  CHECK(fact(victim, "memory", "recorders_limit_bytes") == 16777216);
  change(victim, "max_memory", 134217728);
  CHECK(fact(victim, "memory", "recorders_limit_bytes") == 134217728);
}

TEST_CASE("waits are labelled from now on, without asking in each request") {
  Victim victim("mutex_hog", {}, {{"PROFAGENT_BLOCK_PROFILE_RATE", "1"}});
  const auto labels = [&](const std::string& label) {
    std::set<std::string> result;
    for (const Sample& sample : victim.profile("/debug/pprof/block").in("waits"))
      if (const auto found = sample.labels.find(label); found != sample.labels.end())
        result.insert(found->second);
    return result;
  };
  victim.command("hog1 2 20");
  CHECK(labels("lock").empty());
  CHECK(labels("holder").empty());
  change(victim, "contention_labels", "lock,holder");
  victim.command("hog1 2 20");
  CHECK(labels("lock").size() == 1);
  CHECK(labels("holder") == std::set<std::string>{"hog1"});
  change(victim, "contention_labels", "none");
  CHECK(labels("lock").empty());
}

TEST_CASE("a request that has a rate of its own is the source for as long as it lasts") {
  Victim victim("idle_threads", {}, {{"PROFAGENT_MUTEX_PROFILE_FRACTION", "50"}});
  struct Override {
    const char* target;
    const char* name;
    std::int64_t wanted;
    std::int64_t usual;
  };
  for (const Override& what :
       {Override{"/debug/pprof/block?seconds=2&rate=7", "block_profile_rate", 7, 0},
        Override{"/debug/pprof/mutex?seconds=2&rate=3", "mutex_profile_fraction", 3, 50},
        Override{"/debug/pprof/profile?seconds=2&hz=999", "cpu_profile_rate", 999, 100}}) {
    CAPTURE(what.target);
    const std::string source = setting(victim, what.name)["source"];
    InBackground request(victim, what.target);
    CHECK(eventually([&] { return setting(victim, what.name)["source"] == "request"; },
                     std::chrono::milliseconds(20000)));
    CHECK(request.response().status == 200);
    CHECK(setting(victim, what.name)["current"] == what.usual);
    CHECK(setting(victim, what.name)["source"] == source);
  }
  // While one is under way its rate is what is shown; a setting that is as fine is not overridden.
  InBackground request(victim, "/debug/pprof/block?seconds=6&rate=7");
  REQUIRE(eventually([&] { return setting(victim, "block_profile_rate")["current"] == 7; }));
  CHECK(victim.put_config(R"({"block_profile_rate": 5})").status == 200);
  CHECK(setting(victim, "block_profile_rate")["current"] == 5);
  CHECK(setting(victim, "block_profile_rate")["source"] == "PUT");
  CHECK(request.response().status == 200);
}

TEST_CASE("children that are forked later follow the setting of now", "[FOLLOW_FORK]") {
  Victim victim("measured_forks");
  change(victim, "follow_fork", 0);
  victim.command("fork");
  std::string child;
  REQUIRE(eventually([&] {
    std::smatch match;
    const std::string out = victim.process().out();
    if (std::regex_search(out, match, std::regex("child (\\d+)\n"))) child = match[1];
    return !child.empty();
  }));
  // It has allocated by now, which is when a child that serves opens its address.
  CHECK(listening_port(std::stoi(child)) == 0);
  const std::string path = victim.socket_path();
  CHECK(access((path.substr(0, path.rfind('/') + 1) + child + ".sock").c_str(), F_OK) != 0);
}
