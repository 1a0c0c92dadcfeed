// Where the threads of large programs stand, compared with what gdb says of each (`thread apply all bt`),
// which stops the program for that. Needs packages of its own (scripts/setup.sh long): `meson test --suite
// long`. What this machine lacks is left out with a warning.
#include <algorithm>
#include <fstream>
#include <future>
#include <map>
#include <regex>
#include <sstream>

#include <catch2/catch.hpp>

#include "test/support/programs.h"

using namespace profagent::test;

namespace {

// By thread id, innermost first.
using Stacks = std::map<pid_t, std::vector<std::string>>;

// The names of a function in symbol tables and in debug information differ in how they are decorated, and in
// which of its aliases they are. Empty for code without a name.
std::string plain(std::string name) {
  static const std::regex kNamespace("\\(anonymous namespace\\)::");
  static const std::regex kInnermostTemplate("<[^<>]*>");
  static const std::regex kAlias("^_+(GI_+)?|(64|_impl)$");
  if (name.empty() || name[0] == '[' || name == "None") return {};
  name = std::regex_replace(name, kNamespace, "");
  name = name.substr(0, name.find('('));
  for (std::string before; before != name;) {
    before = name;
    name = std::regex_replace(name, kInnermostTemplate, "");
  }
  name = name.substr(0, name.find('.'));
  return std::regex_replace(name, kAlias, "");
}

Stacks our_stacks(const Address& agent) {
  static const std::regex kHead("goroutine (\\d+) \\[.*\\]:");
  Stacks stacks;
  std::istringstream lines(http_get(agent, "/debug/pprof/goroutine?debug=2").body);
  std::vector<std::string>* stack = nullptr;
  for (std::string line; std::getline(lines, line) && line.rfind('#', 0) != 0;) {
    std::smatch match;
    if (std::regex_match(line, match, kHead)) {
      stack = &stacks[std::stoi(match[1])];
    } else if (!line.empty() && line[0] != '\t') {
      stack->push_back(plain(line.substr(0, line.rfind('('))));
    }
  }
  return stacks;
}

// What `bt` shows, but for functions that have no frame on the stack (inlined, or left by a jump), and for
// those of the agent.
constexpr const char* kScript = R"(
import gdb
gdb.execute('set backtrace past-main on')
for thread in gdb.selected_inferior().threads():
  thread.switch()
  frame = gdb.newest_frame()
  while frame is not None:
    is_ours = 'agent' in (gdb.solib_name(frame.pc()) or '')
    if not is_ours and frame.type() in (gdb.NORMAL_FRAME, gdb.SIGTRAMP_FRAME):
      print('FRAME', thread.ptid[1], frame.name())
    frame = frame.older()
)";

Stacks gdb_stacks(pid_t pid) {
  const TempDir dir;
  std::ofstream(dir.file("stacks.py")) << kScript;
  const Outcome gdb = run({"gdb", "-nx", "-batch", "-p", std::to_string(pid), "-x", dir.file("stacks.py")});
  Stacks stacks;
  std::istringstream lines(gdb.out);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string frame, name;
    pid_t tid = 0;
    if (words >> frame >> tid && frame == "FRAME" && std::getline(words >> std::ws, name))
      stacks[tid].push_back(plain(name));
  }
  if (stacks.empty()) WARN("gdb cannot look into the program: " << gdb.err);
  return stacks;
}

// How many frames can be matched, in their order.
std::size_t common(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  std::vector<std::vector<std::size_t>> best(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 1; i <= a.size(); ++i)
    for (std::size_t j = 1; j <= b.size(); ++j)
      best[i][j] = a[i - 1] == b[j - 1] ? best[i - 1][j - 1] + 1 : std::max(best[i - 1][j], best[i][j - 1]);
  return best[a.size()][b.size()];
}

std::string described(const std::vector<std::string>& stack) {
  std::string text;
  for (const std::string& name : stack) text += name + " < ";
  return text;
}

class Comparison {
 public:
  // Of those threads that stood still meanwhile.
  void add(pid_t pid, const Address& agent) {
    const Stacks before = our_stacks(agent);
    const Stacks gdb = gdb_stacks(pid);
    const Stacks after = our_stacks(agent);
    for (const auto& [tid, stack] : before) {
      const auto there = gdb.find(tid);
      const auto again = after.find(tid);
      if (there == gdb.end() || again == after.end() || again->second != stack) continue;
      if (stack == std::vector<std::string>{"profagent"}) continue;
      ++threads_;
      const std::size_t equal = common(stack, there->second);
      const std::size_t all = std::max(stack.size(), there->second.size());
      equal_ += equal;
      all_ += all;
      named_ += static_cast<std::size_t>(
          std::count_if(stack.begin(), stack.end(), [](const std::string& name) { return !name.empty(); }));
      if (equal != all)
        different_ += "ours: " + described(stack) + "\ngdb:  " + described(there->second) + "\n";
    }
  }

  void check(std::size_t least_threads) const {
    CAPTURE(threads_, equal_, all_, named_, different_);
    CHECK(threads_ >= least_threads);
    CHECK(static_cast<double>(equal_) >= 0.98 * static_cast<double>(all_));
    CHECK(named_ > all_ / 2);
    WARN(threads_ << " threads, " << equal_ << " of " << all_ << " frames equal, " << named_
                  << " with a name\n"
                  << different_);
  }

 private:
  std::size_t threads_ = 0;
  std::size_t equal_ = 0;
  std::size_t all_ = 0;
  std::size_t named_ = 0;
  std::string different_;
};

bool can_compare() {
  return available("gdb") && !gdb_stacks(Process({"sleep", "60"}, {}).pid()).empty();
}

}  // namespace

TEST_CASE("the threads of mariadb stand where gdb says", "[programs]") {
  if (!Mariadb::is_installed() || !can_compare()) return;
  Mariadb mariadb;
  mariadb.start(mariadb.with_agent({}));
  REQUIRE(mariadb.sql("create database waits; create table waits.t (a int)").ok());
  const auto in_background = [&](const std::string& query) {
    return std::async(std::launch::async, [&mariadb, query] { return mariadb.sql(query); });
  };
  const auto waiting = [&] {
    return mariadb
        .sql(
            "select count(*) from information_schema.processlist where state in ('User sleep', 'Waiting for "
            "table metadata lock')")
        .out;
  };
  std::vector<std::future<Outcome>> clients;
  clients.push_back(in_background("lock tables waits.t write; select sleep(600)"));
  REQUIRE(eventually([&] { return waiting() == "1\n"; }));
  for (const char* query : {"select * from waits.t", "select sleep(600)", "select sleep(600)"})
    clients.push_back(in_background(query));
  REQUIRE(eventually([&] { return waiting() == "4\n"; }));

  Comparison comparison;
  comparison.add(mariadb.pid(), mariadb.agent());
  comparison.check(12);
  CHECK(mariadb.shut_down().ok());
}

TEST_CASE("each process of postgres stands where gdb says", "[programs]") {
  if (!Postgres::is_installed() || !can_compare()) return;
  Postgres postgres(Environment{});
  REQUIRE(postgres.sql("create table t (a int)").ok());
  const auto in_background = [&](const std::string& query) {
    return std::async(std::launch::async, [&postgres, query] { return postgres.sql(query); });
  };
  const auto waiting = [&] {
    return postgres.sql("select count(*) from pg_stat_activity where wait_event in ('PgSleep', 'relation')")
        .out;
  };
  std::vector<std::future<Outcome>> clients;
  clients.push_back(in_background("begin; lock table t; select pg_sleep(600)"));
  REQUIRE(eventually([&] { return waiting() == "1\n"; }));
  for (const char* query : {"select * from t", "select pg_sleep(600)"})
    clients.push_back(in_background(query));
  REQUIRE(eventually([&] { return waiting() == "3\n"; }));

  Comparison comparison;
  comparison.add(postgres.pid(), postgres.address(postgres.pid()));
  std::istringstream pids(postgres.sql("select pid from pg_stat_activity where pid <> pg_backend_pid()").out);
  for (pid_t pid = 0; pids >> pid;) comparison.add(pid, postgres.address(pid));
  comparison.check(7);
  CHECK(postgres.shut_down().ok());
}
