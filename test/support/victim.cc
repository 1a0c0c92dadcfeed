#include "test/support/victim.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>

#include <unistd.h>

namespace profagent::test {
namespace {

std::string from_build(const char* name) {
  // Tests are single-threaded where they ask.
  const char* value = getenv(name);  // NOLINT(concurrency-mt-unsafe)
  if (value == nullptr || *value == '\0')
    throw std::runtime_error(std::string(name) + " is not set: run the tests through meson");
  return value;
}

bool is_ours(const std::string& path) {
  return path.find('/') != std::string::npos;
}

Arguments with_program(const std::string& program, Arguments arguments) {
  arguments.insert(arguments.begin(), program);
  return arguments;
}

Environment environment_of(const std::string& dir, const Environment& more, const VictimOptions& options) {
  Environment environment = agent_environment(dir, more);
  if (options.preload.empty()) return environment;
  std::string preload = options.preload;
  if (const std::size_t at = preload.find('@'); at != std::string::npos) preload.replace(at, 1, agent_path());
  environment["LD_PRELOAD"] = preload;
  return environment;
}

}  // namespace

std::string agent_path() {
  return from_build("PROFAGENT_SO");
}

std::string victim_path(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  const std::string compiled = from_build("VICTIM_DIR") + "/" + name;
  return access(compiled.c_str(), X_OK) == 0 ? compiled : name;
}

Environment agent_environment(const std::string& dir, const Environment& more) {
  Environment environment = {{"LD_PRELOAD", agent_path()},
                             {"PROFAGENT_ADDR", "127.0.0.1:0,unix://" + dir + "/%p.sock"}};
  for (const auto& [name, value] : more) environment[name] = value;
  return environment;
}

std::uint16_t listening_port(pid_t pid) {
  const std::string proc = "/proc/" + std::to_string(pid);
  std::set<std::string> inodes;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(proc + "/fd", error)) {
    const std::string link = std::filesystem::read_symlink(entry.path(), error).string();
    if (link.rfind("socket:[", 0) == 0) inodes.insert(link.substr(8, link.size() - 9));
  }
  std::ifstream table(proc + "/net/tcp");
  std::string line;
  std::getline(table, line);
  while (std::getline(table, line)) {
    std::istringstream words(line);
    std::string slot, local, remote, state, queues, timer, retransmits, uid, timeout, inode;
    words >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> uid >> timeout >> inode;
    const bool listens_on_loopback = state == "0A" && local.rfind("0100007F:", 0) == 0;
    if (listens_on_loopback && inodes.count(inode) != 0)
      return static_cast<std::uint16_t>(std::stoul(local.substr(9), nullptr, 16));
  }
  return 0;
}

Victim::Victim(const std::string& name, Arguments arguments, const Environment& environment,
               const VictimOptions& options)
    : path_(victim_path(name)),
      process_(with_program(path_, std::move(arguments)), environment_of(dir_.path(), environment, options)) {
  socket_path_ = dir_.file(std::to_string(process_.pid()) + ".sock");
  if (options.says_ready && is_ours(path_)) process_.wait_for_output("ready\n");
  if (!options.serves) return;
  const bool serves = eventually([this] {
    if (!process_.running()) throw std::runtime_error("the victim ended: " + process_.out() + process_.err());
    return can_connect(unix_address());
  });
  if (!serves) throw std::runtime_error("the victim does not serve: " + process_.err());
}

std::uint16_t Victim::port() {
  if (port_ == 0) eventually([this] { return (port_ = listening_port(process_.pid())) != 0; });
  if (port_ == 0) throw std::runtime_error("the victim listens on no TCP port");
  return port_;
}

std::string Victim::url(const std::string& target) {
  return "http://127.0.0.1:" + std::to_string(port()) + target;
}

Profile Victim::profile(const std::string& target) {
  const Response response = get(target);
  if (response.status != 200)
    throw std::runtime_error(target + " answered " + std::to_string(response.status) + ": " + response.body);
  return Profile::parse(response.body);
}

void Victim::command(const std::string& line) {
  process_.tell(line);
  process_.wait_for_output("done\n", ++commands_);
}

Outcome run_under_agent(const Arguments& arguments, const Environment& environment,
                        const std::string& input) {
  const TempDir dir;
  return run(arguments, agent_environment(dir.path(), environment), input);
}

Outcome run_victim(const std::string& name, const Arguments& arguments, const Environment& environment) {
  return run_under_agent(with_program(victim_path(name), arguments), environment);
}

Outcome run_victim_alone(const std::string& name, const Arguments& arguments,
                         const Environment& environment) {
  return run(with_program(victim_path(name), arguments), environment);
}

Address child_address(Victim& victim) {
  pid_t child = 0;
  const bool is_told = eventually([&] {
    std::smatch match;
    const std::string out = victim.process().out();
    if (std::regex_search(out, match, std::regex("child (\\d+)\n"))) child = std::stoi(match[1]);
    return child != 0;
  });
  if (!is_told) throw std::runtime_error("it has told of no child: " + victim.process().out());
  const std::string& path = victim.socket_path();
  Address address =
      Address::unix_socket(path.substr(0, path.rfind('/') + 1) + std::to_string(child) + ".sock");
  if (!eventually([&] { return can_connect(address); })) throw std::runtime_error("the child does not serve");
  return address;
}

}  // namespace profagent::test
