// The helper process, and what the program that it is started from notices of it: nothing.
#include <cerrno>
#include <csignal>
#include <fstream>
#include <functional>
#include <set>
#include <thread>

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/service/own_thread.h"
#include "test/support/process.h"
#include "test/unit/lines_victim.h"
#include "test/unit/own_helper.h"

using namespace profagent::service;
using namespace profagent::service::test;
using profagent::test::eventually;

namespace fs = std::filesystem;

namespace {

// Runs `body` in a child, single-threaded as many programs are; what it returns, or how the child ended.
std::string in_child(const std::function<std::string()>& body) {
  int out[2];
  REQUIRE(pipe2(out, O_CLOEXEC) == 0);
  const pid_t child = fork();
  if (child == 0) {
    const std::string text = body();
    const bool written = write(out[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
    _exit(written ? 0 : 1);
  }
  close(out[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t got = 0; (got = read(out[0], buffer, sizeof(buffer))) > 0;)
    text.append(buffer, static_cast<std::size_t>(got));
  close(out[0]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return status == 0 ? text : text + " status " + std::to_string(status);
}

std::set<std::string> descriptors() {
  std::set<std::string> result;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    const fs::path target = fs::read_symlink(entry.path(), error);
    // The folder that is being read is one.
    if (!error && target != "/proc/" + std::to_string(getpid()) + "/fd")
      result.insert(entry.path().filename().string() + " " + target.string());
  }
  return result;
}

volatile std::sig_atomic_t child_signals = 0;

std::string wait_for_any() {
  const pid_t waited = waitpid(-1, nullptr, WNOHANG);
  return waited < 0 && errno == ECHILD ? "" : " waitpid found " + std::to_string(waited);
}

// Asks, waits for the helper's end, and tells what went wrong.
std::string ask_and_watch(const OwnHelper& helper, const LinesLibrary& library) {
  std::string wrong;
  child_signals = 0;
  struct sigaction action = {};
  action.sa_handler = [](int) { child_signals = child_signals + 1; };
  sigaction(SIGCHLD, &action, nullptr);
  const auto before = descriptors();
  {
    LineOptions options = helper.options();
    options.idle_seconds = 0;
    SourceLines lines(options);
    const LineAnswer answer = lines.find(ModuleSet::now({}), library.calls());
    if (texts_of(answer) != without_far_inlining(library.truth())) wrong += " no lines: " + answer.problem;
    if (helper.processes().empty()) wrong += " no helper";
    wrong += wait_for_any();
    if (lines.tend() != 0) wrong += " still wants to be called";
    if (!eventually([&] { return helper.processes().empty(); })) wrong += " helper stays";
    wrong += wait_for_any();
    if (descriptors() != before) wrong += " other descriptors";
  }
  if (child_signals != 0) wrong += " SIGCHLD";
  return wrong;
}

struct sock_filter allow_all[] = {{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};

}  // namespace

TEST_CASE("the program has no child, no signal and no descriptor of the helper's", "[F11]") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "libwatched.so"));
  const OwnHelper helper;
  CHECK(in_child([&] { return ask_and_watch(helper, library); }).empty());
}

TEST_CASE("nor if orphans come to the program", "[F11]") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "libreaper.so"));
  const OwnHelper helper;
  CHECK(in_child([&]() -> std::string {
          if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return "prctl";
          return ask_and_watch(helper, library);
        }).empty());
}

TEST_CASE("nor if the program ignores its children", "[F11]") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "libignores.so"));
  const OwnHelper helper;
  for (const bool is_reaper : {false, true}) {
    CHECK(in_child([&]() -> std::string {
            std::signal(SIGCHLD, SIG_IGN);
            if (is_reaper && prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return "prctl";
            LineOptions options = helper.options();
            SourceLines lines(options);
            const LineAnswer answer = lines.find(ModuleSet::now({}), library.calls());
            return answer.problem + wait_for_any();
          }).empty());
  }
}

TEST_CASE("what is known starts no helper") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "libknown.so"));
  const OwnHelper helper;
  LineOptions options = helper.options();
  options.idle_seconds = 0;
  SourceLines lines(options);
  const LineAnswer first = lines.find(ModuleSet::now({}), library.calls());
  CHECK(lines.tend() == 0);
  fs::remove(helper.path());
  const LineAnswer second = lines.find(ModuleSet::now({}), library.calls());
  CHECK(second.problem.empty());
  CHECK(texts_of(second) == texts_of(first));
  // And that nothing is known.
  const Folder other;
  const std::string file = other.copy("liblines_optimized.so", "libstripped.so");
  run({"strip", file});
  const LinesLibrary stripped(file);
  CHECK(lines.find(ModuleSet::now({}), stripped.calls()).problem.empty());
}

TEST_CASE("the helper is another session, without the program's signals, limits and files") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "libsession.so"));
  const OwnHelper helper;
  SourceLines lines(helper.options());
  REQUIRE(lines.find(ModuleSet::now({}), library.calls()).problem.empty());
  REQUIRE(helper.processes().size() == 1);
  const pid_t process = helper.processes()[0];
  const std::string proc = "/proc/" + std::to_string(process);
  CHECK(getsid(process) == process);
  CHECK(getpriority(PRIO_PROCESS, static_cast<id_t>(process)) > 0);
  const std::string status = profagent::test::read_text(proc + "/status");
  CHECK(status.find("SigBlk:\t0000000000000000") != std::string::npos);
  CHECK(status.find("NoNewPrivs:\t1") != std::string::npos);
  CHECK(profagent::test::read_text(proc + "/environ").empty());
  CHECK(profagent::test::read_text(proc + "/limits").find("Max core file size        0") !=
        std::string::npos);
  // The socket, and /dev/null twice.
  std::multiset<std::string> open_files;
  for (const auto& entry : fs::directory_iterator(proc + "/fd")) {
    const std::string target = fs::read_symlink(entry.path());
    open_files.insert(target.substr(0, target.find(':')));
  }
  CHECK(open_files == std::multiset<std::string>{"/dev/null", "/dev/null", "socket"});
}

TEST_CASE("the helper ends with the program, however that ends") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "libends.so"));
  for (const bool is_reaper : {false, true}) {
    const OwnHelper helper;
    int ready[2];
    REQUIRE(pipe(ready) == 0);
    const pid_t child = fork();
    if (child == 0) {
      if (is_reaper) prctl(PR_SET_CHILD_SUBREAPER, 1);
      SourceLines lines(helper.options());
      const bool found = lines.find(ModuleSet::now({}), library.calls()).problem.empty();
      if (write(ready[1], found ? "y" : "n", 1) == 1) pause();
      _exit(1);
    }
    char found = 0;
    REQUIRE(read(ready[0], &found, 1) == 1);
    CHECK(found == 'y');
    CHECK(helper.processes().size() == 1);
    kill(child, SIGKILL);
    REQUIRE(waitpid(child, nullptr, 0) == child);
    close(ready[0]);
    close(ready[1]);
    CHECK(eventually([&] { return helper.processes().empty(); }));
  }
}

TEST_CASE("where no helper can be run, the answer says so, and it is not tried again at once") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "libnone.so"));
  const auto problem_with = [&](const LineOptions& options) {
    SourceLines lines(options);
    const LineAnswer answer = lines.find(ModuleSet::now({}), library.calls());
    CHECK(texts_of(answer) == std::vector<Text>(4));
    return answer.problem;
  };
  const std::string prefix = "No source lines: the helper that reads them cannot be run: ";
  SECTION("no library file") {
    CHECK(problem_with({.helper = folder / "nothing"}) ==
          prefix + "the file of the agent's library is gone or not the same.");
  }
  SECTION("not executable") {
    const OwnHelper helper;
    fs::permissions(helper.path(), fs::perms::owner_read);
    CHECK(problem_with(helper.options()) == prefix + "the kernel refuses it (EACCES).");
  }
  SECTION("no program") {
    std::ofstream(folder / "text") << "text";
    fs::permissions(folder / "text", fs::perms::owner_all);
    CHECK(problem_with({.helper = folder / "text"}) == prefix + "the kernel refuses it (ENOEXEC).");
  }
  SECTION("another program") {
    CHECK(problem_with({.helper = "/bin/true"}) == prefix + "it has ended at once.");
  }
  SECTION("no processes") {
    if (geteuid() != 0) return;
    const OwnHelper helper;
    for (const fs::path& each : {fs::path(folder.path()), fs::path(helper.path()).parent_path()}) {
      fs::permissions(each, fs::perms::group_all | fs::perms::others_all, fs::perm_options::add);
    }
    const ModuleSet modules = ModuleSet::now({});
    CHECK(in_child([&]() -> std::string {
            const rlimit none = {.rlim_cur = 0, .rlim_max = 0};
            // Rights that nobody else in the test has.
            if (setrlimit(RLIMIT_NPROC, &none) != 0 || setresuid(54321, 54321, 54321) != 0) return "setup";
            SourceLines lines(helper.options());
            const LineAnswer answer = lines.find(modules, library.calls());
            return answer.problem + texts_of(answer)[0];
          }) == prefix + "the kernel refuses it (EAGAIN).");
  }
  SECTION("a filter that the program has installed") {
    CHECK(in_child([&]() -> std::string {
            own_thread.filters_at_load = 0;
            const sock_fprog program = {.len = 1, .filter = allow_all};
            if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
                prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
              return "setup";
            SourceLines lines(with_helper());
            return lines.find(ModuleSet::now({}), library.calls()).problem;
          }) == prefix + "the program has installed a system call filter.");
  }
  SECTION("a filter from outside that forbids programs") {
    CHECK(in_child([&]() -> std::string {
            sock_filter no_programs[] = {{BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
                                         {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_execveat},
                                         {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM},
                                         {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
            const sock_fprog program = {.len = 4, .filter = no_programs};
            if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
                prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
              return "setup";
            own_thread.filters_at_load = 1;
            SourceLines lines(with_helper());
            return lines.find(ModuleSet::now({}), library.calls()).problem;
          }) == prefix + "the kernel refuses it (EPERM).");
  }
  SECTION("descriptors that the program could close") {
    own_thread.has_own_fd_table = false;
    CHECK(problem_with(with_helper()) ==
          prefix + "the kernel refuses the agent a descriptor table of its own.");
    own_thread = {};
  }
  SECTION("it is not tried again at once") {
    SourceLines lines({.helper = folder / "later"});
    const std::string first = lines.find(ModuleSet::now({}), library.calls()).problem;
    CHECK_FALSE(first.empty());
    fs::copy_file(std::getenv("PROFAGENT_SO"), folder / "later");
    CHECK(lines.find(ModuleSet::now({}), library.calls()).problem == first);
  }
}

TEST_CASE("without /proc and without the program's files in sight there are still lines", "[F11]") {
  if (geteuid() != 0) return;
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "libjail.so"));
  const ModuleSet modules = ModuleSet::now({});
  CHECK(in_child([&]() -> std::string {
          // The loader and libc are all that the helper needs.
          fs::create_directories(folder / "jail/lib64");
          fs::create_directories(folder / "jail/lib/x86_64-linux-gnu");
          fs::copy_file("/lib64/ld-linux-x86-64.so.2", folder / "jail/lib64/ld-linux-x86-64.so.2");
          fs::copy_file("/lib/x86_64-linux-gnu/libc.so.6", folder / "jail/lib/x86_64-linux-gnu/libc.so.6");
          fs::create_directories(folder / ("jail" + folder.path()));
          fs::copy_file(folder / "libjail.so", folder / ("jail" + (folder / "libjail.so")));
          fs::copy_file(std::getenv("PROFAGENT_SO"), folder / "jail/agent.so");
          if (chroot((folder / "jail").c_str()) != 0 || chdir("/") != 0) return "setup";
          SourceLines lines({.helper = "/agent.so", .debug_root = "/nonexistent"});
          const LineAnswer answer = lines.find(modules, library.calls());
          return texts_of(answer) == without_far_inlining(library.truth()) ? ""
                                                                           : "no lines: " + answer.problem;
        }).empty());
}

TEST_CASE("a helper that misbehaves costs lines, and is not asked for ever") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "libmoods.so"));
  const std::string file = folder / "libmoods.so";
  const ModuleSet modules = ModuleSet::now({});
  for (const char* const mood : {"dies", "garbage", "wrong_id", "wrong_place", "too_much", "nothing"}) {
    INFO(mood);
    const OwnHelper helper(mood, victim_path("bad_helper"));
    SourceLines lines(without_pause(helper));
    const LineAnswer first = lines.find(modules, library.calls());
    CHECK(first.problem ==
          "Source lines are incomplete: the helper has ended while it read " + file + ". Ask again later.");
    const LineAnswer second = lines.find(modules, library.calls());
    CHECK(second.problem == "No source lines of " + file + ": the helper ends while it reads them.");
    CHECK(texts_of(second) == std::vector<Text>(4));
    // With the file gone, a start would be another problem.
    fs::remove(helper.path());
    CHECK(lines.find(modules, library.calls()).problem.empty());
  }
  SECTION("one that says the wrong first word") {
    const OwnHelper helper("rude", victim_path("bad_helper"));
    SourceLines lines(helper.options());
    CHECK(lines.find(modules, library.calls()).problem ==
          "No source lines: the helper that reads them cannot be run: it has ended at once.");
  }
  SECTION("one that dies by accident is asked again") {
    const OwnHelper helper("dies_once", victim_path("bad_helper"));
    SourceLines lines(without_pause(helper));
    CHECK_FALSE(lines.find(modules, library.calls()).problem.empty());
    const LineAnswer answer = lines.find(modules, library.calls());
    CHECK(answer.problem.empty());
    CHECK(texts_of(answer) == std::vector<Text>(4, "at4:1"));
  }
  SECTION("what it has said before is known") {
    const OwnHelper helper("half", victim_path("bad_helper"));
    SourceLines lines(helper.options());
    const LineAnswer answer = lines.find(modules, library.calls());
    std::size_t known = 0;
    for (const Text& text : texts_of(answer)) known += text.empty() ? 0 : 1;
    CHECK(known == 1);
    CHECK_FALSE(answer.problem.empty());
  }
}

// As before Linux 5.9.
TEST_CASE("where the kernel cannot close many descriptors at once, none is kept either", "[F11]") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "libclose.so"));
  const ModuleSet modules = ModuleSet::now({});
  const auto files_of = [](pid_t process) {
    std::multiset<std::string> files;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(process) + "/fd", error)) {
      const std::string target = fs::read_symlink(entry.path(), error);
      files.insert(target.substr(0, target.find(':')));
    }
    return files;
  };
  // With the list of what is open, and without.
  for (const unsigned listing : {~0U, static_cast<unsigned>(SYS_getdents64)}) {
    INFO(listing);
    const OwnHelper helper;
    int ready[2];
    REQUIRE(pipe(ready) == 0);
    const pid_t child = fork();
    if (child == 0) {
      // What must not stay open, also where it is not closed on execution.
      for (int i = 0; i < 300; ++i) static_cast<void>(open("/dev/zero", O_RDONLY));
      sock_filter no_ranges[] = {{BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
                                 {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, SYS_close_range},
                                 {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, listing},
                                 {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | ENOSYS},
                                 {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
      const sock_fprog program = {.len = 5, .filter = no_ranges};
      prctl(PR_SET_CHILD_SUBREAPER, 1);
      bool found = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                   prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
      own_thread.filters_at_load = 1;
      SourceLines lines(helper.options());
      found = found && lines.find(modules, library.calls()).problem.empty();
      if (write(ready[1], found ? "y" : "n", 1) == 1) pause();
      _exit(1);
    }
    char found = 0;
    REQUIRE(read(ready[0], &found, 1) == 1);
    CHECK(found == 'y');
    const std::vector<pid_t> processes = helper.processes();
    REQUIRE(processes.size() == 1);
    CHECK(files_of(processes[0]) == std::multiset<std::string>{"/dev/null", "/dev/null", "socket"});
    const std::string stat = profagent::test::read_text("/proc/" + std::to_string(processes[0]) + "/stat");
    pid_t between = 0;
    REQUIRE(std::sscanf(stat.c_str() + stat.rfind(')'), ") %*c %d", &between) == 1);
    CHECK(profagent::test::read_text("/proc/" + std::to_string(between) + "/comm") == "profagent-start\n");
    // The answer may be there before it has come so far.
    CHECK(eventually([&] { return files_of(between).empty(); }));
    kill(child, SIGKILL);
    REQUIRE(waitpid(child, nullptr, 0) == child);
    close(ready[0]);
    close(ready[1]);
    CHECK(eventually([&] { return helper.processes().empty(); }));
  }
}

TEST_CASE("an answer that comes late is there for the next request") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "liblate.so"));
  const ModuleSet modules = ModuleSet::now({});
  const OwnHelper helper("late", victim_path("bad_helper"));
  LineOptions options = helper.options();
  options.patience_seconds = 0.3;
  SourceLines lines(options);
  const std::string problem =
      "Source lines are incomplete: " + folder / "liblate.so" + " is still being read. Ask again.";
  // On a busy machine it may not even begin in time.
  REQUIRE(eventually([&] { return lines.find(modules, library.calls()).problem == problem; }));
  CHECK(lines.tend() > 0);
  CHECK(lines.find(modules, library.calls()).problem == problem);
  CHECK(helper.processes().size() == 1);
  std::ofstream(helper.path() + ".go") << "go";
  std::vector<Text> texts;
  CHECK(eventually([&] {
    texts = texts_of(lines.find(modules, library.calls()));
    return !texts[0].empty();
  }));
  CHECK(texts == std::vector<Text>(4, "at4:1"));
}

TEST_CASE("nobody is waited for when our thread is to stop") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "libstop.so"));
  for (const char* const mood : {"late", "mute"}) {
    INFO(mood);
    const OwnHelper helper(mood, victim_path("bad_helper"));
    LineOptions options = helper.options();
    options.patience_seconds = 3600;
    SourceLines lines(options);
    std::atomic<bool> stop{false};
    own_thread.stop = &stop;
    std::thread stopper([&] {
      eventually([&] { return !helper.processes().empty(); });
      stop = true;
    });
    const std::string problem = lines.find(ModuleSet::now({}), library.calls()).problem;
    stopper.join();
    own_thread = {};
    CHECK_FALSE(problem.empty());
  }
}
