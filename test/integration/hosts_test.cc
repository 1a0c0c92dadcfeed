// Rows B6, B7, B9, C12-C14, E1-E6, F8, F10, F14, J10 of the fault table: host programs that are easily broken
// from inside.
#include <csignal>
#include <fstream>
#include <regex>
#include <sstream>
#include <thread>

#include <catch2/catch.hpp>

#include "test/support/victim.h"

using namespace profagent::test;

namespace {

const Environment kExact = {{"PROFAGENT_MEM_PROFILE_RATE", "1"}};

long status_field(pid_t pid, const std::string& field) {
  std::istringstream status(read_text("/proc/" + std::to_string(pid) + "/status"));
  for (std::string line; std::getline(status, line);)
    if (line.rfind(field + ":", 0) == 0) return std::stol(line.substr(field.size() + 1));
  return -1;
}

}  // namespace

TEST_CASE("an idle program allocates nothing, however often it is asked", "[B7]") {
  Victim victim("leak", {}, kExact);
  const Profile first = victim.profile();
  for (int i = 0; i < 20; ++i) victim.get(i % 2 == 0 ? "/debug/pprof/heap?debug=1" : "/debug/pprof/");
  const Profile last = victim.profile();
  for (const char* type : {"alloc_objects", "alloc_space", "inuse_objects", "inuse_space"})
    CHECK(last.total(type).all() == first.total(type).all());
}

// The allocator behind us can be left at any instruction, so that nothing but our hooks is under test.
TEST_CASE("a thread that leaves our hooks by siglongjmp is sampled again", "[B6]") {
  for (const Arguments& arguments : {Arguments{}, Arguments{"handler on its own stack"}}) {
    CAPTURE(arguments);
    Victim victim("jumper", arguments, kExact, {.preload = "@ " + victim_path("libbump.so")});
    const Profile heap = victim.profile();
    CHECK(heap.total("inuse_objects").in("afterwards") == 1000);
    CHECK(heap.total("inuse_space").in("afterwards") == 1000 * 333);
    // All the while, too: some in each of the 10,000 turns.
    CHECK(heap.total("alloc_objects").in("allocate_until_alarm") > 100000);
    CHECK(victim.finish().ok());
  }
}

TEST_CASE("no hook takes the loader's lock", "[B9]") {
  const Outcome outcome = run_victim("ctorhost", {victim_path("libctor.so")}, kExact);
  CHECK_FALSE(outcome.timed_out);
  CHECK(outcome.out == "ok\n");
  CHECK(outcome.ok());
}

TEST_CASE("profiles are served while a library's constructor holds the loader's lock", "[B9]") {
  Victim victim("storm", {"4000"}, {{"PROFAGENT_MEM_PROFILE_RATE", "1000"}});
  for (int i = 0; i < 10; ++i) CHECK(victim.get("/debug/pprof/heap").status == 200);
  CHECK(victim.process().wait_for_output("survived\n"));
  CHECK(victim.finish().ok());
}

TEST_CASE("exceptions, dlopen, dlclose and threads at every allocation", "[E1][E2][E3]") {
  const Outcome outcome = run_victim("storm", {"1500"}, kExact);
  CHECK_FALSE(outcome.timed_out);
  CHECK(outcome.out == "ready\nsurvived\n");
  CHECK(outcome.err.empty());
  CHECK(outcome.ok());
}

TEST_CASE("frames that lie are walked without a fault and without end", "[E4][E6]") {
  Victim victim("hostile_frames", {}, kExact);
  const Profile heap = victim.profile();
  CHECK(heap.total("alloc_objects").in("work_here") > 0);
  CHECK(heap.total("inuse_objects").in("work_here") == 0);
  for (const Sample& sample : heap.in("work_here")) CHECK(sample.stack.size() <= 128);
  const Outcome end = victim.finish();
  CHECK(end.out == "ready\nsurvived\n");
  CHECK(end.ok());
}

TEST_CASE("a thousand threads cost no descriptor", "[E5]") {
  Victim victim("many_threads", {}, kExact);
  std::smatch match;
  const std::string out = victim.process().out();
  REQUIRE(std::regex_search(out, match, std::regex("before (\\d+)\nwith 1000 threads (\\d+)")));
  CHECK(match[1] == match[2]);
  CHECK(victim.profile().total("alloc_objects").in("thread_home") == 1000);
  CHECK(victim.finish().ok());
}

TEST_CASE("the allocator's own accounts show nothing of us", "[C12]") {
  const Outcome alone = run_victim_alone("heap_report");
  REQUIRE(alone.ok());
  CHECK(run_victim("heap_report", {}, kExact).out == alone.out);
  CHECK(run_victim("heap_report").out == alone.out);
}

TEST_CASE("a program that locks all its memory does not lock ours", "[C13]") {
  const auto locked = [](const std::string& out) {
    std::smatch match;
    return std::regex_search(out, match, std::regex("VmLck:\\s+(\\d+) kB")) ? std::stol(match[1]) : -1;
  };
  Process alone({victim_path("lock_memory")}, {});
  alone.wait_for_output("ready\n");
  if (alone.out().find("cannot lock") != std::string::npos) {
    WARN("mlockall is not allowed here");
    return;
  }
  alone.tell("lock");
  alone.wait_for_output("done\n");
  Victim victim("lock_memory", {}, kExact);
  const Profile heap = victim.profile();
  CHECK(heap.total("inuse_objects").in("locked_home") == 10);
  victim.command("lock");
  CAPTURE(alone.out(), victim.process().out());
  REQUIRE(locked(alone.out()) > 0);
  // The agent's own code and what it has touched; the reservations of 64 MiB must not be in it.
  CHECK(locked(victim.process().out()) - locked(alone.out()) < 16384);
}

TEST_CASE("little address space: samples are dropped, the program is not", "[C14]") {
  for (const char* limit : {"400000000", "60000000", "20000000"}) {
    CAPTURE(limit);
    const std::string as = std::string("--as=") + limit;
    const Outcome alone = run({"prlimit", as, victim_path("shape")});
    const TempDir dir;
    Environment environment = agent_environment(dir.path(), kExact);
    const std::string preload = environment["LD_PRELOAD"];
    environment.erase("LD_PRELOAD");
    const Outcome under =
        run({"prlimit", as, "env", "LD_PRELOAD=" + preload, victim_path("shape")}, environment);
    CHECK(under.signal == 0);
    if (!alone.ok()) continue;
    CHECK(under.err.find("Assert") == std::string::npos);
    // With 20 MB the loader itself may be unable to map the agent; then it says so and goes on.
    if (std::string(limit) != "20000000") CHECK(under.exit_code == alone.exit_code);
  }
}

TEST_CASE("a program that closes all descriptors keeps the ones it opens next", "[F8]") {
  const TempDir files;
  Victim victim("closer", {files.path()}, kExact, {.serves = false});
  for (int i = 0; i < 5; ++i) victim.command("allocate");
  const Outcome end = victim.finish();
  CHECK(end.out == "ready\ndone\ndone\ndone\ndone\ndone\n");
  CHECK(end.ok());
}

TEST_CASE("children started with exec get no descriptor of ours", "[F10]") {
  const auto numbers = [](const std::string& listing) {
    std::vector<std::string> result;
    static const std::regex entry(" (\\d+) -> ");
    for (std::sregex_iterator it(listing.begin(), listing.end(), entry), end; it != end; ++it)
      result.push_back((*it)[1]);
    return result;
  };
  const Outcome alone = run({victim_path("spawner"), "fds"});
  // The child does not load the agent itself: what it has, it has from us.
  Victim victim("spawner", {"fds"}, {}, {.serves = false, .says_ready = false});
  const Outcome under = victim.finish();
  CHECK(under.out.find("socket:") == std::string::npos);
  CHECK(numbers(under.out).size() == numbers(alone.out).size());
}

TEST_CASE("without its main thread a program is profiled as before", "[F14]") {
  Victim victim("main_gone", {}, kExact);
  REQUIRE(status_field(victim.process().pid(), "VmSize") == -1);
  const Profile heap = victim.profile();
  CHECK(heap.total("inuse_space").in("before_main_ends") == 1999943);
  CHECK(heap.total("inuse_space").in("after_main") == 1999957);
  CHECK(victim.get("/debug/pprof/cmdline").body == victim.path());
  victim.command("again");
  CHECK(victim.profile().total("inuse_objects").in("after_main") == 2);
  CHECK(victim.finish().ok());
}

TEST_CASE("clients that vanish at any moment do not end the program", "[J10]") {
  Victim victim("leak", {}, kExact);
  const std::string request = to_bytes({.target = "/debug/pprof/heap"});
  for (int i = 0; i < 1000; ++i) {
    Connection connection(i % 2 == 0 ? victim.unix_address() : victim.tcp_address());
    // From "nothing sent" over half a request to "left before the answer", in an orderly way and not.
    connection.send(request.substr(0, static_cast<std::size_t>(i) % (request.size() + 1)));
    if (i % 10 < 5) connection.send(request);
    if (i % 3 == 0) connection.abort();
  }
  CHECK(victim.process().running());
  // As soon as the server has seen them all leave; until then it may refuse a connection too many.
  CHECK(eventually([&] {
    try {
      return victim.get("/debug/pprof/heap").status == 200;
    } catch (const std::runtime_error&) {
      return false;
    }
  }));
  // SIGPIPE is as it was: not ignored, not caught.
  const std::string status = read_text("/proc/" + std::to_string(victim.process().pid()) + "/status");
  std::smatch match;
  REQUIRE(std::regex_search(status, match, std::regex("SigIgn:\\s+(\\w+)")));
  CHECK((std::stoull(match[1], nullptr, 16) >> (SIGPIPE - 1) & 1) == 0);
}
