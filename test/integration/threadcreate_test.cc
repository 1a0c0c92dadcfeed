// Who creates threads, and whose still exist: cases G07, B13, F14, F15.
#include <atomic>
#include <filesystem>
#include <regex>
#include <thread>

#include <catch2/catch.hpp>

#include "encoder/proto/profile.pb.h"
#include "test/support/victim.h"

using namespace profagent::test;

namespace {

constexpr const char* kCreated = "/debug/pprof/threadcreate";
constexpr const char* kLive = "/debug/pprof/threadcreate?live=1";

std::int64_t created_in(Victim& victim, const std::string& function) {
  return victim.profile(kCreated).total("threadcreate").in(function);
}

std::int64_t live_in(Victim& victim, const std::string& function) {
  return victim.profile(kLive).total("threadcreate").in(function);
}

// As the kernel lists them, without ours; a thread stays listed for a moment when it has ended.
std::int64_t count_threads(pid_t pid) {
  std::int64_t count = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
    if (read_text(task.path() / "comm") != "profagent\n") ++count;
  }
  return count;
}

bool shows_all_threads(Victim& victim) {
  return eventually([&] {
    return victim.profile(kLive).total("threadcreate").all() == count_threads(victim.process().pid());
  });
}

}  // namespace

TEST_CASE("threadcreate counts the threads at the callers that created them", "[G07]") {
  Victim victim("thread_makers");
  victim.command("c11 2");
  const Profile created = victim.profile(kCreated);
  CHECK(created.types() == std::vector<std::string>{"threadcreate/count"});
  CHECK(created.text(created.message().period_type().type()) == "threadcreate");
  CHECK(created.text(created.message().period_type().unit()) == "count");
  CHECK(created.message().period() == 1);
  CHECK(created.message().duration_nanos() == 0);
  CHECK(created.total("threadcreate").all() == 5 + 3 + 2);
  // The caller is the leaf.
  CHECK(created.total("threadcreate").at("leaks_threads") == 5);
  CHECK(created.total("threadcreate").at("tidies_threads") == 3);
  CHECK(created.total("threadcreate").at("leaks_c11_threads") == 2);
  for (const Sample& sample : created.samples()) {
    CAPTURE(sample.key());
    CHECK(sample.stack.back().name == "_start");
    for (const Frame& frame : sample.stack) CHECK(frame.address != 0);
  }
}

TEST_CASE("debug=1 of threadcreate has the same total, and live=1 is obeyed", "[G07]") {
  Victim victim("thread_makers");
  const std::string text = victim.get(std::string(kCreated) + "?debug=1").body;
  CHECK(text.rfind("threadcreate profile: total 8\n5 @ 0x", 0) == 0);
  CHECK(std::regex_search(text, std::regex("\n#\t0x[0-9a-f]+\tleaks_threads\\+0x[0-9a-f]+")));
  CHECK_FALSE(std::regex_search(text, std::regex(" 0x0\\b")));
  const std::string live = victim.get(std::string(kLive) + "&debug=1").body;
  CHECK(live.rfind("threadcreate profile: total 6\n5 @ 0x", 0) == 0);
  CHECK(live.find("[main thread]") != std::string::npos);
  CHECK(live.find("tidies_threads") == std::string::npos);
}

TEST_CASE("a leak of threads shows its creator", "[G07]") {
  Victim victim("thread_makers");
  victim.command("leak 45");
  victim.command("tidy 40");
  victim.command("c11 3");
  victim.command("own_stack 4");
  const Profile live = victim.profile(kLive);
  CHECK(live.total("threadcreate").in("leaks_threads") == 50);
  CHECK(live.total("threadcreate").in("leaks_c11_threads") == 3);
  CHECK(live.total("threadcreate").in("leaks_on_own_stacks") == 4);
  CHECK(live.total("threadcreate").in("tidies_threads") == 0);
  CHECK(live.total("threadcreate").at("[main thread]") == 1);
  CHECK(live.total("threadcreate").at("[unknown creator]") == 0);
  CHECK(shows_all_threads(victim));
  CHECK(created_in(victim, "tidies_threads") == 43);
}

TEST_CASE("threads that were made past the threads library have an unknown creator", "[G07]") {
  Victim victim("thread_makers");
  victim.command("raw 3");
  const Profile live = victim.profile(kLive);
  CHECK(live.total("threadcreate").at("[unknown creator]") == 3);
  CHECK(shows_all_threads(victim));
  CHECK(victim.profile(kCreated).total("threadcreate").all() == 8);
}

TEST_CASE("ten thousand short threads are counted exactly", "[G07]") {
  Victim victim("brief_threads");
  victim.command("run 10000 0");
  CHECK(victim.profile(kCreated).total("threadcreate").all() == 10000);
  CHECK(created_in(victim, "main") == 10000);
  // They are joined, and the kernel forgets a thread a little later than that.
  CHECK(eventually([&] { return victim.profile(kLive).total("threadcreate").all() == 1; }));
}

TEST_CASE("a delta has the threads of its time", "[G07]") {
  Victim victim("thread_makers");
  Response answer;
  std::atomic<bool> over{false};
  std::thread client([&] {
    answer = victim.get(std::string(kCreated) + "?seconds=2");
    over = true;
  });
  int leaked = 0;
  for (; !over; ++leaked) victim.command("leak 1");
  client.join();
  const Profile delta = Profile::parse(answer.body);
  CHECK(delta.total("threadcreate").in("leaks_threads") >= 1);
  CHECK(delta.total("threadcreate").all() <= leaked);
  CHECK(delta.in("tidies_threads").empty());
}

TEST_CASE("where the handle of a thread was kept is not looked at again", "[B13]") {
  Victim victim("thread_makers");
  victim.command("vanish 3000");
  CHECK(victim.process().running());
  CHECK(created_in(victim, "makes_vanishing_threads") == 3000);
  CHECK(eventually([&] { return live_in(victim, "makes_vanishing_threads") == 0; }));
}

TEST_CASE("threads that could not be created are not counted and leave nothing", "[B13]") {
  Victim victim("create_fails");
  victim.command("fail 100");
  const auto memory = [&] {
    const std::string page = victim.get("/debug/pprof/agent").body;
    std::smatch match;
    REQUIRE(std::regex_search(page, match, std::regex("\"recorders_mapped_bytes\": (\\d+)")));
    return std::stoll(match[1]);
  };
  CHECK(created_in(victim, "succeed") == 1);
  const long long before = memory();
  // More than there are hand-over places.
  victim.command("fail 10000");
  CHECK(memory() == before);
  victim.command("succeed");
  const Profile created = victim.profile(kCreated);
  CHECK(created.total("threadcreate").in("succeed") == 2);
  CHECK(created.total("threadcreate").all() == 2);
}

TEST_CASE("a child of fork() begins with one thread and none created", "[FOLLOW_FORK]") {
  Victim victim("thread_forker");
  const Address child = child_address(victim);
  const auto childs = [&](const char* target) { return Profile::parse(http_get(child, target).body); };
  CHECK(childs(kCreated).total("threadcreate").all() == 0);
  CHECK(childs(kLive).total("threadcreate").at("[main thread]") == 1);
  CHECK(childs(kLive).total("threadcreate").all() == 1);

  victim.command("child");
  CHECK(childs(kCreated).total("threadcreate").in("child_leaks") == 2);
  CHECK(childs(kCreated).total("threadcreate").all() == 2);
  CHECK(childs(kLive).total("threadcreate").in("child_leaks") == 2);
  CHECK(childs(kLive).total("threadcreate").all() == 3);
  CHECK(created_in(victim, "parent_leaks") == 4);
  CHECK(victim.profile(kLive).total("threadcreate").all() == 5);
}

TEST_CASE("the main thread is not among the living when it has ended", "[F14]") {
  Victim victim("thread_makers", {"--main-ends"});
  REQUIRE(eventually([&] { return live_in(victim, "[main thread]") == 0; }));
  const Profile live = victim.profile(kLive);
  CHECK(live.total("threadcreate").at("leaks_threads") == 5);
  CHECK(live.total("threadcreate").at("main") == 1);
  CHECK(live.total("threadcreate").all() == 6);
}

TEST_CASE("a thread that has the number of one that ended has its own creator", "[F15]") {
  Victim victim("thread_makers");
  // Other processes take numbers, too.
  for (int attempt = 1; attempt <= 20; ++attempt) {
    victim.command("again");
    const Profile live = victim.profile(kLive);
    CHECK(live.total("threadcreate").in("leaks_c11_threads") == attempt);
    CHECK(live.total("threadcreate").in("tidies_threads") == 0);
    if (victim.process().out().find("same number\n") != std::string::npos) return;
  }
  WARN("this kernel, or this user, cannot give the number of a thread again: not shown here");
}
