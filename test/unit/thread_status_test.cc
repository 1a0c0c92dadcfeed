#include "agent/safe/thread_status.h"

#include <csignal>
#include <vector>

#include <grp.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include "agent/safe/sys.h"

namespace profagent::safe {
namespace {

TEST_CASE("a thread's blocked signals and filters", "[D6]") {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPROF);
  sigaddset(&set, SIGRTMAX);
  sigset_t before;
  REQUIRE(pthread_sigmask(SIG_BLOCK, &set, &before) == 0);
  ThreadStatus status;
  REQUIRE(read_thread_status(sys::gettid(), status));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  CHECK((status.blocked_signals >> (SIGPROF - 1) & 1) == 1);
  CHECK((status.blocked_signals >> (SIGRTMAX - 1) & 1) == 1);
  CHECK((status.blocked_signals >> (SIGUSR1 - 1) & 1) == 0);
  if (prctl(PR_GET_SECCOMP) == 0) CHECK(status.filters == 0);
}

TEST_CASE("a filter that was not there at load is the program's") {
  const auto filtered = [](std::int64_t filters, std::int64_t at_load) {
    return may_be_filtered({.blocked_signals = 0, .filters = filters}, at_load);
  };
  CHECK_FALSE(filtered(0, 0));
  CHECK_FALSE(filtered(2, 2));
  CHECK(filtered(1, 0));
  CHECK(filtered(3, 2));
  // A kernel that tells of some, but not how many.
  CHECK(filtered(-1, 0));
  // One that tells of none.
  CHECK_FALSE(filtered(-1, -1));
}

TEST_CASE("a thread that is not there") {
  ThreadStatus status;
  CHECK_FALSE(read_thread_status(999'999'999, status));
}

// The line of the groups is in front of the others, and may be longer than anything.
TEST_CASE("a status of many pages", "[D6]") {
  if (geteuid() != 0) {
    WARN("needs root");
    return;
  }
  const pid_t child = fork();
  if (child == 0) {
    std::vector<gid_t> groups(3000);
    for (std::size_t i = 0; i < groups.size(); ++i) groups[i] = static_cast<gid_t>(1'000'000'000 + i);
    if (setgroups(groups.size(), groups.data()) != 0) _exit(2);
    sigset_t set;
    sigfillset(&set);
    pthread_sigmask(SIG_SETMASK, &set, nullptr);
    ThreadStatus status;
    const bool read = read_thread_status(sys::gettid(), status);
    _exit(read && (status.blocked_signals >> (SIGPROF - 1) & 1) == 1 && status.filters >= 0 ? 0 : 1);
  }
  int result = -1;
  REQUIRE(waitpid(child, &result, 0) == child);
  CHECK(WIFEXITED(result));
  CHECK(WEXITSTATUS(result) == 0);
}

}  // namespace
}  // namespace profagent::safe
