// A program that runs under the agent, and the questions a test asks it.
//
//   Victim victim("leak", {"--keep", "1999993"}, {{"PROFAGENT_MEM_PROFILE_RATE", "1"}});
//   const Profile heap = victim.profile("/debug/pprof/heap");
//   CHECK(heap.total("inuse_space").in("leaky") == multiple_of(1999993));
//
// The name is a program in VICTIM_DIR, else one on PATH, else a path. The constructor returns when the
// program serves and, if it is one of ours (VICTIM_DIR), has said "ready". It serves on a free TCP port of
// loopback and on a Unix socket in its own private folder. The destructor ends the program.
#pragma once

#include <string>

#include "test/support/http.h"
#include "test/support/process.h"
#include "test/support/profile.h"

namespace profagent::test {

struct VictimOptions {
  bool serves = true;        // false: the agent is expected not to open a listener
  bool says_ready = true;    // false: do not wait for "ready" (programs from PATH never are waited for)
  std::string preload = {};  // LD_PRELOAD in place of the agent alone; "@" stands for the agent
};

class Victim {
 public:
  explicit Victim(const std::string& name, Arguments arguments = {}, const Environment& environment = {},
                  const VictimOptions& options = {});

  Response get(const std::string& target) { return http_get(unix_address(), target); }
  Response get_tcp(const std::string& target) { return http_get(tcp_address(), target); }
  Response request(const Request& request) { return http(unix_address(), request); }
  // Changes settings.
  Response put_config(const std::string& body, const std::string& type = "application/json") {
    return request({.method = "PUT",
                    .target = "/debug/pprof/config",
                    .headers = {{"Content-Type", type}},
                    .body = body});
  }
  // GETs and decodes; throws when the answer is not a valid profile.
  Profile profile(const std::string& target = "/debug/pprof/heap");

  // Sends a command to one of ours and waits for its "done".
  void command(const std::string& line);

  [[nodiscard]] std::string url(const std::string& target = "");  // http://127.0.0.1:PORT + target
  [[nodiscard]] Address unix_address() const { return Address::unix_socket(socket_path_); }
  [[nodiscard]] Address tcp_address() { return Address::tcp(port()); }
  [[nodiscard]] std::uint16_t port();
  [[nodiscard]] const std::string& socket_path() const { return socket_path_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] Process& process() { return process_; }
  Outcome finish() { return process_.finish(); }

 private:
  TempDir dir_;
  std::string path_;
  Process process_;
  std::string socket_path_;
  std::size_t commands_ = 0;
  std::uint16_t port_ = 0;
};

// What the harness was told by the build: the agent, and the folder of the compiled victims.
[[nodiscard]] std::string agent_path();
[[nodiscard]] std::string victim_path(const std::string& name);
// The environment that loads the agent; it listens on a Unix socket in `dir` and a free TCP port.
[[nodiscard]] Environment agent_environment(const std::string& dir, const Environment& more = {});

// The port of 127.0.0.1 on which this process listens, 0 when on none: asked of the kernel, not of the agent.
[[nodiscard]] std::uint16_t listening_port(pid_t pid);

// Where a child serves that one of ours has forked and told of ("child PID"), once it does.
[[nodiscard]] Address child_address(Victim& victim);

// Runs a program to its end under the agent, or without it when PROFAGENT_SO is "".
Outcome run_under_agent(const Arguments& arguments, const Environment& environment = {},
                        const std::string& input = {});
Outcome run_victim(const std::string& name, const Arguments& arguments = {},
                   const Environment& environment = {});
Outcome run_victim_alone(const std::string& name, const Arguments& arguments = {},
                         const Environment& environment = {});

}  // namespace profagent::test
