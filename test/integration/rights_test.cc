// Programs that change who they are, or are more than their caller: rows A13, G1, G3 of the fault table.
#include <filesystem>

#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include "test/support/victim.h"

using namespace profagent::test;

namespace {

namespace fs = std::filesystem;

constexpr auto kEveryoneMayRead = fs::perms::owner_all | fs::perms::group_read | fs::perms::group_exec |
                                  fs::perms::others_read | fs::perms::others_exec;

bool available(const std::string& program) {
  for (const char* folder : {"/usr/bin/", "/usr/sbin/", "/bin/", "/sbin/"})
    if (access((folder + program).c_str(), X_OK) == 0) return true;
  WARN("left out, not installed: " << program);
  return false;
}

bool is_root() {
  if (geteuid() == 0) return true;
  WARN("left out: only root can become another user");
  return false;
}

// A folder that every user may enter, with a copy of the agent that every user may load. What the build made
// may lie where others may not look.
class OpenFolder {
 public:
  OpenFolder() {
    fs::permissions(dir_.path(), kEveryoneMayRead);
    add(agent_path(), "agent.so");
  }
  std::string add(const std::string& path, const std::string& name) {
    const std::string copy = dir_.file(name);
    fs::copy_file(path, copy);
    fs::permissions(copy, kEveryoneMayRead);
    return copy;
  }
  [[nodiscard]] std::string agent() const { return dir_.file("agent.so"); }
  [[nodiscard]] std::string file(const std::string& name) const { return dir_.file(name); }
  [[nodiscard]] const std::string& path() const { return dir_.path(); }

 private:
  TempDir dir_;
};

// The program as nobody, under the agent; the library is loaded by it only, not by setpriv: env sets it.
Arguments as_nobody(const OpenFolder& folder, const std::string& program, bool preload = true) {
  Arguments all = {"setpriv",        "--reuid=65534", "--regid=65534",
                   "--clear-groups", "env",           "PROFAGENT_ADDR=127.0.0.1:0"};
  if (preload) all.push_back("LD_PRELOAD=" + folder.agent());
  all.push_back(program);
  return all;
}

// Root can make such files, and this folder's file system honours them.
bool can_raise_rights(const OpenFolder& folder) {
  struct statvfs status {};
  if (!is_root() || !available("setpriv")) return false;
  if (statvfs(folder.path().c_str(), &status) == 0 && (status.f_flag & ST_NOSUID) == 0 &&
      prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0)
    return true;
  WARN("left out: set-uid programs have no effect here");
  return false;
}

std::string make_set_uid(OpenFolder& folder) {
  const std::string program = folder.add(victim_path("secure"), "secure_uid");
  REQUIRE(chmod(program.c_str(), 04755) == 0);
  return program;
}

bool serves(const Process& process) {
  return listening_port(process.pid()) != 0;
}

constexpr char kPlain[] = "secure 0 preload 1 agent 1 work 500500\nready\n";
constexpr char kWithoutAgent[] = "secure 1 preload 0 agent 0 work 500500\nready\n";

void check_without_agent(const OpenFolder& folder, const std::string& program) {
  CAPTURE(program);
  Process process(as_nobody(folder, program), {});
  REQUIRE(process.wait_for_output("ready\n"));
  CHECK_FALSE(serves(process));
  const Outcome outcome = process.finish();
  CHECK(outcome.ok());
  CHECK(outcome.out == kWithoutAgent);
  CHECK(outcome.err.empty());
}

// A program from PATH that is profiled although it is a wrapper, with our thread running before its main():
// it is kept there until a client was answered.
Outcome run_with_our_thread(const std::string& name, const Arguments& arguments) {
  OpenFolder folder;
  const std::string gate = folder.add(victim_path("libgate.so"), "gate.so");
  // The last one is initialised first: the agent is there when the gate closes.
  Victim victim(name, arguments,
                {{"LD_PRELOAD", gate + " " + folder.agent()}, {"PROFAGENT_PROGRAMS", name}, {"GATE", name}});
  CHECK(victim.get("/debug/pprof/heap").status == 200);
  const fs::directory_iterator tasks("/proc/" + std::to_string(victim.process().pid()) + "/task");
  CHECK(std::distance(begin(tasks), end(tasks)) == 2);
  victim.process().tell("go");
  return victim.finish();
}

Outcome run_profiled(const std::string& name, const Arguments& arguments) {
  const OpenFolder folder;
  Arguments all = {name};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return run_under_agent(all, {{"LD_PRELOAD", folder.agent()}, {"PROFAGENT_PROGRAMS", name + ",id"}});
}

void check_says(const Outcome& outcome, const std::string& text) {
  CHECK(outcome.signal == 0);
  CHECK(outcome.exit_code == 0);
  CHECK(outcome.out == text);
  CHECK(outcome.err.empty());
}

const Arguments kBecomeNobody = {"--reuid", "65534", "--clear-groups", "id", "-u"};
const Arguments kBecomeRootInside = {"-Ur", "id", "-u"};

bool can_unshare() {
  if (!available("unshare")) return false;
  if (run({"unshare", "-Ur", "true"}).ok()) return true;
  WARN("left out: no user namespaces here");
  return false;
}

}  // namespace

TEST_CASE("a set-uid program has no agent and works as before", "[A13]") {
  OpenFolder folder;
  if (!can_raise_rights(folder)) return;
  check_without_agent(folder, make_set_uid(folder));
  // And it is the bit that does it.
  Process plain(as_nobody(folder, folder.add(victim_path("secure"), "secure")), {});
  REQUIRE(plain.wait_for_output("ready\n"));
  CHECK(serves(plain));
  CHECK(plain.out() == kPlain);
}

TEST_CASE("a program with file capabilities has no agent and works as before", "[A13][J14]") {
  OpenFolder folder;
  if (!can_raise_rights(folder) || !available("setcap")) return;
  const std::string program = folder.add(victim_path("secure"), "secure_caps");
  if (const Outcome outcome = run({"setcap", "cap_net_raw+ep", program}); !outcome.ok()) {
    WARN("left out: no file capabilities here: " << outcome.err);
    return;
  }
  check_without_agent(folder, program);
}

// By this file the loader brings the agent into set-uid programs, too; it must see for itself.
TEST_CASE("loaded by /etc/ld.so.preload into a set-uid program the agent does nothing", "[A13][J14]") {
  OpenFolder folder;
  if (!can_raise_rights(folder) || !available("unshare")) return;
  fs::create_directory(folder.file("etc"));
  write_text(folder.file("etc/ld.so.preload"), folder.agent() + "\n");
  // /etc is ours, in a mount namespace of its own.
  const auto inside = [&](const std::string& program) {
    Arguments all = {"unshare",         "-m", "sh", "-c", "mount --bind \"$0\" /etc && exec \"$@\"",
                     folder.file("etc")};
    const Arguments rest = as_nobody(folder, program, false);
    all.insert(all.end(), rest.begin(), rest.end());
    return all;
  };
  if (!run(inside("/bin/true")).ok()) {
    WARN("left out: no mount namespaces here");
    return;
  }
  Process secure(inside(make_set_uid(folder)), {});
  REQUIRE(secure.wait_for_output("ready\n"));
  CHECK(secure.out() == "secure 1 preload 0 agent 1 work 500500\nready\n");
  CHECK_FALSE(serves(secure));
  Process plain(inside(folder.add(victim_path("secure"), "secure")), {});
  REQUIRE(plain.wait_for_output("ready\n"));
  CHECK(plain.out() == "secure 0 preload 0 agent 1 work 500500\nready\n");
  CHECK(serves(plain));
}

TEST_CASE("a program becomes another user", "[G1]") {
  if (!is_root() || !available("setpriv")) return;
  check_says(run_profiled("setpriv", kBecomeNobody), "65534\n");
}

// glibc aborts a process whose threads disagree about their user.
TEST_CASE("a program becomes another user while a client is connected", "[G1]") {
  if (!is_root() || !available("setpriv")) return;
  check_says(run_with_our_thread("setpriv", kBecomeNobody), "65534\n");
}

TEST_CASE("a program enters a new user namespace", "[G3]") {
  if (!can_unshare()) return;
  check_says(run_profiled("unshare", kBecomeRootInside), "0\n");
}

// The kernel gives none to a process with two threads.
TEST_CASE("a program enters a new user namespace while a client is connected", "[G3]") {
  if (!can_unshare()) return;
  check_says(run_with_our_thread("unshare", kBecomeRootInside), "0\n");
}
