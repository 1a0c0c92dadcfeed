// A single-threaded program has no thread of ours before somebody asks, and does not notice when one comes or
// goes.
#include <filesystem>
#include <iterator>

#include <catch2/catch.hpp>

#include "test/support/victim.h"

using namespace profagent::test;

namespace {

std::size_t thread_count(pid_t pid) {
  const std::filesystem::directory_iterator tasks("/proc/" + std::to_string(pid) + "/task");
  return static_cast<std::size_t>(std::distance(begin(tasks), end(tasks)));
}

}  // namespace

TEST_CASE("a sleep goes on after the first client has come", "[D3][H1]") {
  Victim victim("perl", {"-e", "$| = 1; print sleep 3"});
  CHECK(victim.get("/debug/pprof/heap").status == 200);
  CHECK(thread_count(victim.process().pid()) == 2);
  const Outcome outcome = victim.finish();
  // Whole seconds of the wall clock; a sleep that was cut short would say 0 or 1.
  CHECK((outcome.out == "3" || outcome.out == "4"));
}

TEST_CASE("our thread makes way for a call that wants the process to have one thread only", "[G3]") {
  // unshare(CLONE_VM): the system call itself fails beside another thread, the function ends ours first.
  Victim victim("/usr/bin/python3", {"-c",
                                     "import ctypes, sys\n"
                                     "libc = ctypes.CDLL(None)\n"
                                     "print('ready', flush=True)\n"
                                     "sys.stdin.readline()\n"
                                     "print(libc.syscall(272, 0x100), libc.unshare(0x100), flush=True)\n"
                                     "sys.stdin.readline()\n"});
  CHECK(victim.get("/debug/pprof/heap").status == 200);
  victim.process().tell("go");
  CHECK(victim.process().wait_for_output("-1 0\n"));
  // And it is back for the next one who asks.
  CHECK(victim.get("/debug/pprof/heap").status == 200);
  victim.process().close_input();
  CHECK(victim.finish().ok());
}
