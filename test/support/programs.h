// Programs that a machine may have: finding them, and starting those that need some preparation.
#pragma once

#include <memory>
#include <string>

#include "test/support/victim.h"

namespace profagent::test {

// False, with a warning in the test's output, when it is not installed.
[[nodiscard]] bool available(const std::string& program);

// Nobody listens there now. Servers say so when somebody was faster.
[[nodiscard]] std::uint16_t free_port();

// A database of postgres in a folder of its own, with the agent in the server and each of its children. Runs
// as the user postgres where the test is root, since it refuses to run as root.
class Postgres {
 public:
  [[nodiscard]] static bool is_installed();

  explicit Postgres(const Environment& environment);
  // Of psql, with one query.
  [[nodiscard]] Outcome sql(const std::string& query) const;
  // Of a program of postgres', such as pgbench, with the options that lead it to this server.
  [[nodiscard]] Outcome client(const std::string& program, const Arguments& arguments) const;
  [[nodiscard]] Address address(pid_t pid) const;  // of the agent in the server or in one of its children
  [[nodiscard]] pid_t pid() const { return server_->pid(); }
  Outcome shut_down();

 private:
  TempDir dir_;
  std::string bin_;
  std::string sockets_;
  std::unique_ptr<Process> server_;
};

// A server of mariadb in a folder of its own, reached by a Unix socket only.
class Mariadb {
 public:
  [[nodiscard]] static bool is_installed();

  Mariadb();
  // With the agent when the environment says so.
  void start(const Environment& environment);
  Outcome shut_down();
  [[nodiscard]] Outcome sql(const std::string& query) const;
  [[nodiscard]] pid_t pid() const { return server_->pid(); }
  [[nodiscard]] std::string socket() const { return dir_.file("socket"); }
  [[nodiscard]] Address agent() const;
  [[nodiscard]] Environment with_agent(const Environment& more) const;

 private:
  TempDir dir_;
  TempDir agent_dir_;
  std::unique_ptr<Process> server_;
};

}  // namespace profagent::test
