#include "test/support/programs.h"

#include <csignal>
#include <filesystem>
#include <stdexcept>

#include <unistd.h>
#include <catch2/catch.hpp>

namespace profagent::test {

bool available(const std::string& program) {
  for (const char* folder : {"/usr/bin/", "/usr/sbin/", "/bin/", "/usr/local/bin/"})
    if (access((folder + program).c_str(), X_OK) == 0) return true;
  WARN("not installed: " << program);
  return false;
}

std::uint16_t free_port() {
  static std::uint16_t next = static_cast<std::uint16_t>(20000 + getpid() % 12000);
  while (can_connect(Address::tcp(++next))) {
  }
  return next;
}

namespace {

std::string postgres_folder() {
  std::string found;
  std::error_code error;
  for (const auto& version : std::filesystem::directory_iterator("/usr/lib/postgresql", error))
    found = version.path().string() + "/bin/";
  return found;
}

Arguments as_postgres(Arguments arguments) {
  if (geteuid() != 0) return arguments;
  Arguments all = {"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return all;
}

void must(const Arguments& arguments) {
  const Outcome outcome = run(as_postgres(arguments));
  if (!outcome.ok()) throw std::runtime_error(arguments[0] + ": " + outcome.out + outcome.err);
}

}  // namespace

bool Postgres::is_installed() {
  if (!postgres_folder().empty()) return true;
  WARN("not installed: postgres");
  return false;
}

Postgres::Postgres(const Environment& environment) : bin_(postgres_folder()), sockets_(dir_.file("agent")) {
  std::filesystem::permissions(dir_.path(), std::filesystem::perms::all);
  const std::string data = dir_.file("data");
  must({bin_ + "initdb", "-D", data, "-U", "postgres", "--no-sync", "-A", "trust"});
  must({"mkdir", "-m", "700", sockets_});
  // A copy, because postgres may not be allowed to look into the build folder.
  const std::string agent = dir_.file("agent.so");
  if (!run({"install", "-m", "644", agent_path(), agent}).ok()) throw std::runtime_error("install failed");
  // The library is loaded by postgres only, not by setpriv: env sets it.
  Arguments arguments = {"env", "LD_PRELOAD=" + agent, "PROFAGENT_ADDR=unix://" + sockets_ + "/%p.sock"};
  for (const auto& [name, value] : environment) arguments.push_back(name + "=" + value);
  for (const std::string& word :
       {bin_ + "postgres", std::string("-D"), data, std::string("-k"), dir_.path(), std::string("-c"),
        std::string("listen_addresses="), std::string("-c"), std::string("fsync=off")})
    arguments.push_back(word);
  server_ = std::make_unique<Process>(as_postgres(arguments), Environment());
  if (!eventually([&] { return sql("select 1").out == "1\n"; }))
    throw std::runtime_error("postgres does not answer: " + server_->err());
}

Outcome Postgres::sql(const std::string& query) const {
  return run({"psql", "-h", dir_.path(), "-U", "postgres", "-AtX", "-c", query});
}

Outcome Postgres::client(const std::string& program, const Arguments& arguments) const {
  Arguments all = {bin_ + program, "-h", dir_.path(), "-U", "postgres"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return run(all);
}

Address Postgres::address(pid_t pid) const {
  return Address::unix_socket(sockets_ + "/" + std::to_string(pid) + ".sock");
}

Outcome Postgres::shut_down() {
  server_->signal(SIGINT);  // what postgres calls a fast shutdown
  return server_->finish();
}

namespace {

std::string mariadb_user() {
  return geteuid() == 0 ? "--user=root" : "--user=mysql";
}

}  // namespace

bool Mariadb::is_installed() {
  return available("mariadbd") && available("mariadb-install-db");
}

Mariadb::Mariadb() {
  const Outcome made = run({"mariadb-install-db", "--no-defaults", "--datadir=" + dir_.file("data"),
                            "--auth-root-authentication-method=normal", "--skip-test-db", mariadb_user()});
  if (!made.ok()) throw std::runtime_error("mariadb-install-db: " + made.out + made.err);
}

void Mariadb::start(const Environment& environment) {
  server_ = std::make_unique<Process>(
      Arguments{"mariadbd", "--no-defaults", "--datadir=" + dir_.file("data"), "--socket=" + socket(),
                "--skip-networking", "--table-open-cache-instances=1", mariadb_user()},
      environment);
  if (!eventually([&] { return sql("select 1").out == "1\n"; }))
    throw std::runtime_error("mariadb does not answer: " + server_->err());
}

Outcome Mariadb::shut_down() {
  server_->signal(SIGTERM);
  return server_->finish();
}

Outcome Mariadb::sql(const std::string& query) const {
  return run({"mariadb", "--no-defaults", "-uroot", "-S", socket(), "-N", "-B", "-e", query});
}

Address Mariadb::agent() const {
  return Address::unix_socket(agent_dir_.file(std::to_string(server_->pid()) + ".sock"));
}

Environment Mariadb::with_agent(const Environment& more) const {
  return agent_environment(agent_dir_.path(), more);
}

}  // namespace profagent::test
