// Rows F6, F17, G7, H6 and J13 of the fault table: several processes of one service, each reachable and found
// by its pid; ports and files that are given back; and a program that is not disturbed when nothing can be
// had.
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "test/support/cpu.h"
#include "test/support/own_network.h"
#include "test/support/programs.h"

using namespace profagent::test;
using Json = nlohmann::json;

namespace {

// The sockets that a process holds, as /proc shows them: "socket:[4711]".
std::set<std::string> sockets_of(pid_t pid) {
  std::set<std::string> result;
  std::error_code gone;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd", gone)) {
    const std::string link = std::filesystem::read_symlink(entry.path(), gone).string();
    if (link.find("socket:") == 0) result.insert(link);
  }
  return result;
}

Address socket_in(const std::string& folder, pid_t pid) {
  return Address::unix_socket(folder + "/" + std::to_string(pid) + ".sock");
}

// True when who answers there is `pid`.
bool answers_for(const Address& address, pid_t pid) {
  try {
    return Json::parse(http_get(address, "/debug/pprof/agent").body)["service"]["pid"] == pid;
  } catch (const std::exception&) {
    return false;
  }
}

std::set<pid_t> children_of(pid_t pid) {
  std::set<pid_t> result;
  std::istringstream text(
      read_text("/proc/" + std::to_string(pid) + "/task/" + std::to_string(pid) + "/children"));
  for (pid_t child = 0; text >> child;) result.insert(child);
  return result;
}

// A socket that listens on 127.0.0.1:port, as a stranger's program would.
class Squatter {
 public:
  explicit Squatter(std::uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    good_ = bind(fd_, reinterpret_cast<sockaddr*>(&name), sizeof(name)) == 0 && listen(fd_, 1) == 0;
  }
  Squatter(Squatter&& other) noexcept : fd_(std::exchange(other.fd_, -1)), good_(other.good_) {}
  Squatter& operator=(Squatter&&) = delete;
  ~Squatter() {
    if (fd_ >= 0) close(fd_);
  }
  [[nodiscard]] bool good() const { return good_; }

 private:
  int fd_;
  bool good_ = false;
};

Environment default_addresses(const TempDir& runtime_dir) {
  return {{"PROFAGENT_ADDR", ""}, {"XDG_RUNTIME_DIR", runtime_dir.path()}};
}

// True when each of these answers for itself, on a port of its own and on a Unix socket, and there is no
// other socket in the folder.
bool all_answer(const std::string& folder, const std::set<pid_t>& pids) {
  std::set<std::uint16_t> ports;
  for (const pid_t pid : pids) {
    if (!answers_for(socket_in(folder, pid), pid)) return false;
    ports.insert(listening_port(pid));
  }
  const auto files = std::filesystem::directory_iterator(folder);
  return ports.size() == pids.size() && ports.count(0) == 0 &&
         static_cast<std::size_t>(std::distance(begin(files), std::filesystem::directory_iterator())) ==
             pids.size();
}

// nginx with two workers. It listens on no port, so that those there are are ours.
class Nginx {
 public:
  enum class Mode { kForeground, kDaemon };

  explicit Nginx(Mode mode) : mode_(mode) {
    std::filesystem::create_directories(dir_.file("logs"));
    std::string text = mode == Mode::kDaemon ? "daemon on;\n" : "daemon off;\n";
    if (geteuid() == 0) text += "user root;\n";
    // A new binary gets no variable that is not named.
    text += "env LD_PRELOAD; env PROFAGENT_ADDR;\nmaster_process on; worker_processes 2; pid " + pid_file() +
            ";\nevents { worker_connections 64; }\nhttp { access_log off; ";
    for (const char* name : {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"})
      text += std::string(name) + "_temp_path " + dir_.file(name) + "; ";
    write_text(dir_.file("nginx.conf"), text + "server { listen unix:" + dir_.file("http.sock") + "; } }\n");
    process_ = std::make_unique<Process>(Arguments{program(), "-c", dir_.file("nginx.conf"), "-p",
                                                   dir_.path(), "-e", dir_.file("logs/error.log")},
                                         agent_environment(agent_dir_.path()));
    REQUIRE(eventually([&] { return master() != 0; }));
  }
  Nginx(const Nginx&) = delete;
  Nginx& operator=(const Nginx&) = delete;
  ~Nginx() {
    const pid_t newest = master();
    if (mode_ == Mode::kDaemon && newest != 0) kill(newest, SIGTERM);
  }

  // The newest; 0 while there is none.
  [[nodiscard]] pid_t master() const {
    return std::filesystem::exists(pid_file()) ? std::atoi(read_text(pid_file()).c_str()) : 0;
  }
  // A master and its two workers; empty while they are more or fewer.
  static std::set<pid_t> generation(pid_t master, pid_t next_master = 0) {
    std::set<pid_t> pids = children_of(master);
    pids.erase(next_master);
    if (pids.size() != 2) return {};
    pids.insert(master);
    return pids;
  }
  // Where the agent's sockets are.
  [[nodiscard]] const std::string& folder() const { return agent_dir_.path(); }
  Process& process() { return *process_; }

 private:
  // By its path: what it executes anew is what it was called by.
  static std::string program() {
    const std::string path = run({"sh", "-c", "command -v nginx"}).out;
    return path.substr(0, path.find('\n'));
  }
  [[nodiscard]] std::string pid_file() const { return dir_.file("pid"); }

  TempDir dir_;
  TempDir agent_dir_;
  Mode mode_;
  std::unique_ptr<Process> process_;
};

}  // namespace

TEST_CASE("a forked child holds no listener of its parent, whether it serves or not", "[F6]") {
  for (const char* follow : {"1", "0"}) {
    CAPTURE(follow);
    Victim victim("forker", {}, {{"PROFAGENT_FOLLOW_FORK", follow}});
    std::smatch match;
    REQUIRE(victim.process().wait_for_output("child "));
    const std::string out = victim.process().out();
    REQUIRE(std::regex_search(out, match, std::regex("child (\\d+)\n")));
    const pid_t child = std::stoi(match[1]);
    const std::set<std::string> parents = sockets_of(victim.process().pid());
    CHECK(parents.size() >= 2);
    for (const std::string& socket : sockets_of(child)) CHECK(parents.count(socket) == 0);
    // So the parent can be started anew at once: its port is free although the child lives.
    const std::uint16_t port = victim.port();
    victim.process().signal(SIGKILL);
    CHECK(eventually([&] { return !victim.process().running(); }));
    CHECK(Squatter(port).good());
  }
}

TEST_CASE("a program that executes itself again serves where it did", "[F17]") {
  const std::uint16_t port = free_port();
  const TempDir dir;
  write_text(dir.file("again.py"),
             "import os, sys\n"
             "print('generation', sys.argv[1], flush=True)\n"
             "if sys.stdin.readline(): os.execv(sys.executable,\n"
             "    [sys.executable, sys.argv[0], str(int(sys.argv[1]) + 1)])\n");
  const Environment environment = {
      {"PROFAGENT_ADDR", "127.0.0.1:" + std::to_string(port) + ",unix://" + dir.file("%p.sock")}};
  Victim victim("/usr/bin/python3", {dir.file("again.py"), "1"}, environment,
                {.serves = false, .says_ready = false});
  const Address address = socket_in(dir.path(), victim.process().pid());
  for (int generation = 1; generation <= 5; ++generation) {
    CAPTURE(generation);
    REQUIRE(victim.process().wait_for_output("generation " + std::to_string(generation) + "\n"));
    // The old file lies at the path until the new program has put its own there.
    CHECK(eventually([&] { return answers_for(address, victim.process().pid()); }));
    CHECK(answers_for(Address::tcp(port), victim.process().pid()));
    victim.process().tell("again");
  }
  CHECK(victim.process().wait_for_output("generation 6\n"));
  CHECK(eventually([&] { return answers_for(address, victim.process().pid()); }));
  CHECK(victim.finish().ok());
  CHECK_FALSE(std::filesystem::exists(address.unix_path));
}

TEST_CASE("nginx: master and workers are each reachable by pid, also after reloads", "[F17][programs]") {
  if (!available("nginx")) return;
  Nginx nginx(Nginx::Mode::kForeground);
  const auto all_reachable = [&] {
    const std::set<pid_t> pids = Nginx::generation(nginx.master());
    return !pids.empty() && all_answer(nginx.folder(), pids);
  };
  REQUIRE(eventually(all_reachable));
  for (int reload = 0; reload < 5; ++reload) {
    CAPTURE(reload);
    const std::set<pid_t> before = children_of(nginx.master());
    nginx.process().signal(SIGHUP);
    CHECK(eventually([&] {
      const std::set<pid_t> now = children_of(nginx.master());
      return std::none_of(now.begin(), now.end(), [&](pid_t pid) { return before.count(pid) != 0; }) &&
             all_reachable();
    }));
  }
  nginx.process().signal(SIGQUIT);
  CHECK(nginx.process().finish().ok());
}

TEST_CASE("nginx: old and new processes of a binary upgrade are each reachable by pid, and then the new",
          "[F17][programs]") {
  if (!available("nginx")) return;
  // One in the foreground takes itself for the new binary while its parent lives.
  Nginx nginx(Nginx::Mode::kDaemon);
  CHECK(nginx.process().finish().ok());
  const pid_t old_master = nginx.master();
  REQUIRE(eventually([&] { return !Nginx::generation(old_master).empty(); }));
  kill(old_master, SIGUSR2);
  REQUIRE(eventually([&] { return nginx.master() != 0 && nginx.master() != old_master; }));
  const pid_t new_master = nginx.master();
  std::set<pid_t> newer;
  CHECK(eventually([&] {
    newer = Nginx::generation(new_master);
    std::set<pid_t> all = Nginx::generation(old_master, new_master);
    if (newer.empty() || all.empty()) return false;
    all.insert(newer.begin(), newer.end());
    return all.size() == 6 && all_answer(nginx.folder(), all);
  }));
  kill(old_master, SIGQUIT);
  CHECK(eventually([&] { return all_answer(nginx.folder(), newer); }));
  kill(new_master, SIGQUIT);
  CHECK(eventually([&] { return std::filesystem::is_empty(nginx.folder()); }));
}

TEST_CASE("the first process has port 6060, each later one the next that is free", "[J13]") {
  if (!take_own_network()) return;
  const TempDir runtime_dir;
  const Squatter stranger(6061);
  REQUIRE(stranger.good());
  Victim first("leak", {}, default_addresses(runtime_dir), {.serves = false});
  Victim second("leak", {}, default_addresses(runtime_dir), {.serves = false});
  const std::map<Victim*, std::uint16_t> wanted = {{&first, 6060}, {&second, 6062}};
  for (const auto& [victim, port] : wanted) {
    CAPTURE(port);
    CHECK(listening_port(victim->process().pid()) == port);
    // Who asks sees by the pid whom he has got.
    CHECK(answers_for(Address::tcp(port), victim->process().pid()));
    CHECK(answers_for(socket_in(runtime_dir.file("profagent"), victim->process().pid()),
                      victim->process().pid()));
  }
  // Wrappers take no port from the service that they start.
  Process wrapped({"/bin/sh", "-c", "exec env /usr/bin/nice " + victim_path("leak") + "; true"},
                  agent_environment(runtime_dir.path(), default_addresses(runtime_dir)));
  REQUIRE(wrapped.wait_for_output("ready\n"));
  CHECK(listening_port(wrapped.pid()) == 6063);
}

TEST_CASE("without a free port there is still the Unix socket, and the program goes on", "[J13]") {
  if (!take_own_network()) return;
  const TempDir runtime_dir;
  std::vector<Squatter> strangers;
  for (std::uint16_t port = 6060; port <= 6159; ++port) strangers.emplace_back(port);
  Victim victim("leak", {}, default_addresses(runtime_dir), {.serves = false});
  CHECK(listening_port(victim.process().pid()) == 0);
  const Address address = socket_in(runtime_dir.file("profagent"), victim.process().pid());
  REQUIRE(answers_for(address, victim.process().pid()));
  CHECK(http_get(address, "/debug/pprof/agent?format=text")
            .body.find("127.0.0.1:6060: cannot listen: EADDRINUSE") != std::string::npos);
  CHECK(victim.finish().ok());
}

TEST_CASE("processes of one service are told apart by name, and only those that are meant serve") {
  const TempDir dir;
  const TempDir runtime_dir;
  for (const char* name : {"service-a", "service-b", "helper"})
    std::filesystem::copy_file(victim_path("leak"), dir.file(name));
  Environment environment = {{"PROFAGENT_PROGRAMS", "service-*"}};
  Victim a(dir.file("service-a"), {}, environment);
  Victim b(dir.file("service-b"), {}, environment);
  Victim helper(dir.file("helper"), {}, environment, {.serves = false, .says_ready = false});
  REQUIRE(helper.process().wait_for_output("ready\n"));
  CHECK(a.port() != b.port());
  CHECK(answers_for(a.tcp_address(), a.process().pid()));
  CHECK(answers_for(b.tcp_address(), b.process().pid()));
  CHECK(listening_port(helper.process().pid()) == 0);
}

TEST_CASE("a program under tight limits works as without us", "[G7]") {
  const TempDir dir;
  const Outcome alone = run({victim_path("shape")});
  REQUIRE(alone.ok());
  for (const std::string limit : {"--nofile=5", "--nofile=10", "--fsize=0", "--fsize=1", "--nproc=0",
                                  "--sigpending=0", "--memlock=0", "--stack=262144"}) {
    CAPTURE(limit);
    Environment environment = agent_environment(dir.path(), {{"PROFAGENT_MEM_PROFILE_RATE", "1"},
                                                             {"PROFAGENT_BLOCK_PROFILE_RATE", "1"},
                                                             {"PROFAGENT_LOG", "debug"},
                                                             {"PROFAGENT_LOG_FILE", dir.file("log")}});
    const std::string preload = "LD_PRELOAD=" + environment["LD_PRELOAD"];
    environment.erase("LD_PRELOAD");
    const Arguments bare = {"prlimit", limit, victim_path("shape")};
    const Outcome without = run(bare);
    const Outcome under = run({"prlimit", limit, "env", preload, victim_path("shape")}, environment);
    CHECK(under.signal == without.signal);
    CHECK(under.exit_code == without.exit_code);
    CHECK(under.out == without.out);
    CHECK(under.err == without.err);
  }
}

TEST_CASE("a process that nobody asks is not woken, our thread included", "[H6]") {
  Victim victim("idle_threads");
  // With lines our thread would wake once more, when the helper has been idle for long enough.
  CHECK(victim.get("/debug/pprof/heap?symbols=names").status == 200);
  const std::string tasks = "/proc/" + std::to_string(victim.process().pid()) + "/task/";
  const auto switches = [&] {
    std::map<pid_t, std::string> result;
    for (const pid_t tid : threads_of(victim.process().pid()))
      result[tid] = status_line(tasks + std::to_string(tid) + "/status", "voluntary_ctxt_switches");
    return result;
  };
  // Longer than any timer that a connection may leave behind: five seconds.
  std::map<pid_t, std::string> before;
  CHECK(eventually([&] {
    before = switches();
    std::this_thread::sleep_for(std::chrono::seconds(6));
    return switches() == before;
  }));
  CHECK(before.size() == 12);
}
