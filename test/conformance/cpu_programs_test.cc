// Real programs with a CPU profile running all the time, at 1000 Hz: they must do what they do without us,
// and their own functions must be in the profile. Programs that this machine lacks are left out with a
// warning.
#include <atomic>
#include <filesystem>
#include <set>
#include <thread>

#include <catch2/catch.hpp>

#include "encoder/proto/profile.pb.h"
#include "test/support/cpu.h"
#include "test/support/programs.h"

using namespace profagent::test;

namespace {

const std::vector<std::string> kNone;

// Takes one profile after the other from every process that serves in a folder, as long as this object
// exists.
class ProfilesAllTheTime {
 public:
  explicit ProfilesAllTheTime(std::string folder)
      : folder_(std::move(folder)), watcher_([this] { watch(); }) {}
  ~ProfilesAllTheTime() {
    stop_ = true;
    watcher_.join();
    for (std::thread& client : clients_) client.join();
  }
  ProfilesAllTheTime(const ProfilesAllTheTime&) = delete;
  ProfilesAllTheTime& operator=(const ProfilesAllTheTime&) = delete;

  // So many processes were asked.
  [[nodiscard]] int asked() const { return asked_; }

 private:
  void watch() {
    std::set<std::string> known;
    while (!stop_) {
      std::error_code error;
      for (const auto& entry : std::filesystem::directory_iterator(folder_, error))
        if (entry.path().extension() == ".sock" && known.insert(entry.path()).second)
          clients_.emplace_back([this, path = entry.path().string()] { profile_again_and_again(path); });
      pause_a_little();
    }
  }
  // Programs end in the middle of their profiles, and nobody is left to answer. Where one executes another
  // the same path is served again, and before a socket is listened on it refuses everybody.
  void profile_again_and_again(const std::string& path) {
    bool is_counted = false;
    while (!stop_) {
      try {
        Connection connection(Address::unix_socket(path));
        connection.send(to_bytes({.target = "/debug/pprof/profile?seconds=1&hz=1000"}));
        if (!is_counted) ++asked_;
        is_counted = true;
        connection.read_response();
      } catch (const std::exception&) {
        pause_a_little();
      }
    }
  }

  std::string folder_;
  std::atomic<bool> stop_ = false;
  std::atomic<int> asked_ = 0;
  std::vector<std::thread> clients_;
  std::thread watcher_;
};

void check_same(const Arguments& program, int processes = 1) {
  CAPTURE(program);
  const Outcome alone = run(program);
  const TempDir dir;
  const ProfilesAllTheTime profiles(dir.path());
  // Wrappers too, which else would load the agent dormant, and prove nothing.
  const Outcome under = run(program, agent_environment(dir.path(), {{"PROFAGENT_PROGRAMS", "*"}}));
  CHECK(under.exit_code == alone.exit_code);
  CHECK(under.signal == alone.signal);
  CHECK(under.out == alone.out);
  CHECK(under.err == alone.err);
  CHECK(profiles.asked() >= processes);
}

std::string map_of(pid_t pid) {
  return "/tmp/perf-" + std::to_string(pid) + ".map";
}

// A frame of code that was made at run time has this in its name.
bool names_run_time_code(const Profile& profile, const std::string& part) {
  for (const Sample& sample : profile.samples())
    for (const Frame& frame : sample.stack)
      if (frame.mapping == "[jit]" && frame.name.find(part) != std::string::npos) return true;
  return false;
}

}  // namespace

TEST_CASE("redis under load, in its own functions", "[programs]") {
  if (!available("redis-server") || !available("redis-benchmark")) return;
  const std::uint16_t port = free_port();
  Victim redis("redis-server",
               {"--port", std::to_string(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"});
  REQUIRE(eventually([&] { return can_connect(Address::tcp(port)); }));
  InBackground waiting(redis, "/debug/pprof/profile?seconds=3&hz=1000");
  const Outcome load = run({"redis-benchmark", "-p", std::to_string(port), "-n", "60000", "-r", "50000", "-d",
                            "200", "-t", "set,get,lpush,hset", "-q"});
  CHECK(load.ok());
  CHECK(load.err.empty());
  const Profile profile = waiting.profile();
  CHECK(broken_rules(profile) == kNone);
  for (const char* function : {"main", "aeMain", "readQueryFromClient", "processCommand", "call"}) {
    CAPTURE(function);
    CHECK(nanos_in(profile, function) > 0);
  }
  CHECK(nanos_in(profile, "main") > sampled_nanos(profile) / 2);
  CHECK(nanos_in(profile, "main") >= nanos_in(profile, "aeMain"));
  CHECK(nanos_in(profile, "aeMain") >= nanos_in(profile, "processCommand"));
  CHECK(run({"redis-cli", "-p", std::to_string(port), "ping"}).out == "PONG\n");
}

TEST_CASE("a compiler writes the same code", "[A14][programs]") {
  if (!available("g++")) return;
  const TempDir dir;
  write_text(dir.file("a.cc"),
             "#include <map>\n#include <string>\n#include <vector>\n"
             "int main(int argc, char** argv) {\n"
             "  std::map<std::string, std::vector<std::string>> m;\n"
             "  for (int i = 0; i < argc; ++i) m[argv[i]].push_back(argv[0]);\n"
             "  return m.size();\n}\n");
  // The driver, and cc1plus, which does the work.
  check_same({"g++", "-std=c++17", "-O2", "-S", "-o", "-", dir.file("a.cc")}, 2);
}

TEST_CASE("python computes, waits and starts others as ever", "[A14][D1][programs]") {
  if (!available("python3")) return;
  check_same({"/usr/bin/python3", "-c",
              "import hashlib, json, random, re, select, subprocess, threading, time, zlib\n"
              "random.seed(5)\n"
              "def work(n):\n"
              "    text = json.dumps([random.Random(n).random() for _ in range(60000)])\n"
              "    results[n] = hashlib.sha256(zlib.compress(re.sub('0', 'o', text).encode())).hexdigest()\n"
              "results = {}\n"
              "threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]\n"
              "[t.start() for t in threads]; [t.join() for t in threads]\n"
              "print(sorted(results.items()))\n"
              "for i in range(20):\n"
              "    begin = time.monotonic(); time.sleep(0.02); select.select([], [], [], 0.02)\n"
              "    assert time.monotonic() - begin >= 0.04\n"
              "    print(subprocess.run(['sh', '-c', 'echo child'], capture_output=True).stdout)\n"
              "raise SystemExit(5)\n"});
}

TEST_CASE("node computes with all its threads as ever", "[A14][E10][programs]") {
  if (!available("node")) return;
  check_same({"node", "-e",
              "const c = require('crypto');\n"
              "let sum = 0;\n"
              "function f(n) { return n < 2 ? n : f(n - 1) + f(n - 2); }\n"
              "for (let i = 0; i < 5; i++) sum += f(27);\n"
              "const words = {}; for (let i = 0; i < 3e5; i++) words['w' + i % 5000] = JSON.stringify({i, s: "
              "'x'});\n"
              "console.log(sum, Object.keys(words).length);\n"
              "let left = 8; for (let i = 0; i < 8; i++)\n"
              "  c.pbkdf2('secret', 'salt' + i, 60000, 32, 'sha256', (e, k) => {\n"
              "    if (--left == 0) { console.error('end'); process.exit(7); } });\n"});
}

TEST_CASE("node's compiled functions have the names of the script, when it writes a map", "[programs]") {
  if (!available("node")) return;
  const TempDir dir;
  write_text(
      dir.file("hot.js"),
      "function hot(n) { let s = 0; for (let i = 0; i < n; i++) s += Math.sqrt(i) * (i % 7); return s; }\n"
      "for (let i = 0; i < 20; i++) hot(1e6);\n"
      "console.log('hot');\n"
      "(function again() { hot(1e6); setImmediate(again); })();\n");
  for (const bool writes : {true, false}) {
    Arguments arguments = {dir.file("hot.js")};
    // With the map comes a log, in the current folder unless told otherwise.
    if (writes)
      arguments = {"--perf-basic-prof", "--no-logfile-per-isolate", "--logfile=" + dir.file("v8.log"),
                   arguments[0]};
    Victim node("node", arguments);
    REQUIRE(node.process().wait_for_output("hot\n"));
    const Profile profile = node.profile("/debug/pprof/profile?seconds=1");
    CAPTURE(writes, described(profile));
    CHECK(names_run_time_code(profile, "hot.js:1:") == writes);
    CHECK(profile.in("[jit]").empty() == writes);
    std::filesystem::remove(map_of(node.process().pid()));
  }
}

TEST_CASE("java's compiled methods have their names, when it was asked for a map", "[programs]") {
  if (!available("java") || !available("javac") || !available("jcmd")) return;
  const TempDir dir;
  write_text(
      dir.file("Hot.java"),
      "public class Hot {\n"
      "  static long spin(long n) { long s = 0; for (long i = 0; i < n; ++i) s += s * 31 ^ i; return s; }\n"
      "  public static void main(String[] a) {\n"
      "    long sum = 0;\n"
      "    for (int i = 0; i < 300; ++i) sum += spin(1000000);\n"
      "    System.out.println(\"hot\");\n"
      "    for (;;) sum += spin(1000000);\n  }\n}\n");
  REQUIRE(run({"javac", "-d", dir.path(), dir.file("Hot.java")}).ok());
  Victim java("java", {"-XX:+PreserveFramePointer", "-cp", dir.path(), "Hot"});
  REQUIRE(java.process().wait_for_output("hot\n"));
  CHECK_FALSE(names_run_time_code(java.profile("/debug/pprof/profile?seconds=1"), "Hot.spin"));
  REQUIRE(run({"jcmd", std::to_string(java.process().pid()), "Compiler.perfmap"}).ok());
  const Profile profile = java.profile("/debug/pprof/profile?seconds=1");
  CAPTURE(described(profile));
  CHECK(names_run_time_code(profile, "Hot.spin"));
  std::filesystem::remove(map_of(java.process().pid()));
}

TEST_CASE("java still throws at the end of its stack, and at null", "[A14][E7][programs]") {
  if (!available("java") || !available("javac")) return;
  const TempDir dir;
  write_text(dir.file("Deep.java"),
             "public class Deep {\n"
             "  static int depth; static String nothing;\n"
             "  static void recurse() { ++depth; recurse(); }\n"
             "  public static void main(String[] a) {\n"
             "    int deep = 0, nulls = 0; long sum = 0;\n"
             "    for (int i = 0; i < 200; ++i) {\n"
             "      try { recurse(); } catch (StackOverflowError e) { ++deep; }\n"
             "      try { sum += nothing.length(); } catch (NullPointerException e) { ++nulls; }\n"
             "      for (int j = 0; j < 3000000; ++j) sum += j ^ i;\n"
             "    }\n"
             "    System.out.println(deep + \" \" + nulls + \" \" + sum);\n  }\n}\n");
  REQUIRE(run({"javac", "-d", dir.path(), dir.file("Deep.java")}).ok());
  check_same({"java", "-cp", dir.path(), "Deep"});
}

TEST_CASE("postgres under pgbench: every backend has a profile of its own", "[programs]") {
  if (!Postgres::is_installed()) return;
  Postgres postgres(Environment{});
  CHECK(postgres.client("pgbench", {"-i", "-q", "-n", "-s", "1", "postgres"}).ok());
  Outcome load;
  std::atomic<bool> over = false;
  std::jthread clients([&] {
    load = postgres.client("pgbench", {"-n", "-c", "4", "-T", "20", "postgres"});
    over = true;
  });
  const auto backends = [&] {
    std::istringstream pids(
        postgres.sql("select pid from pg_stat_activity where application_name = 'pgbench'").out);
    std::vector<pid_t> result;
    for (pid_t pid = 0; pids >> pid;) result.push_back(pid);
    return result;
  };
  REQUIRE(eventually([&] { return over || backends().size() == 4; }));
  int with_samples = 0;
  for (const pid_t pid : backends()) {
    REQUIRE(eventually([&] { return over || can_connect(postgres.address(pid)); }));
    const Profile profile =
        Profile::parse(http_get(postgres.address(pid), "/debug/pprof/profile?seconds=1&hz=1000").body);
    CHECK(broken_rules(profile) == kNone);
    for (const Sample& sample : profile.samples()) CHECK((is_not_sampled(sample) || sample.has("main")));
    if (nanos_in(profile, "PostgresMain") > 0) ++with_samples;
    if (with_samples == 2) break;
  }
  CHECK(with_samples == 2);
  clients.join();
  CAPTURE(load.out, load.err);
  CHECK(load.ok());
  CHECK(load.out.find("number of failed transactions: 0") != std::string::npos);
  CHECK(postgres.shut_down().ok());
}
