// What /debug/pprof/profile looks like to a client: P01-P19 of the conformance table. Whether its numbers are
// true is asked in cpu_accuracy_test.cc.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include <catch2/catch.hpp>

#include "encoder/proto/profile.pb.h"
#include "test/support/cpu.h"

using namespace profagent::test;

namespace {

const std::vector<std::string> kNone;

}  // namespace

TEST_CASE("a CPU profile has Go's form", "[P01][P02]") {
  Victim victim("cpu_shares");
  const auto begin = std::chrono::steady_clock::now();
  const Response answer = victim.get("/debug/pprof/profile?seconds=1");
  const std::chrono::nanoseconds elapsed = std::chrono::steady_clock::now() - begin;
  CHECK(answer.status == 200);
  CHECK(answer.header("content-type") == "application/octet-stream");
  CHECK(answer.header("content-disposition") == "attachment; filename=\"profile\"");
  CHECK(answer.header("x-content-type-options") == "nosniff");
  const Profile profile = Profile::parse(answer.body);
  CHECK(profile.types() == std::vector<std::string>{"samples/count", "cpu/nanoseconds"});
  CHECK(profile.message().period() == 10000000);
  CHECK(profile.text(profile.message().default_sample_type()).empty());
  CHECK(profile.message().duration_nanos() >= kSecond * 99 / 100);
  CHECK(profile.message().duration_nanos() <= elapsed.count());
  CHECK(broken_rules(profile) == kNone);
  CHECK_FALSE(profile.samples().empty());
}

TEST_CASE("time is when the profile began, by the wall clock", "[P01]") {
  Victim victim("cpu_shares");
  const auto now = [] {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  };
  const std::int64_t asked = now();
  const Profile profile = victim.profile("/debug/pprof/profile?seconds=1");
  const std::int64_t answered = now();
  CHECK(begin_of(profile) >= asked);
  CHECK(end_of(profile) <= answered);
}

TEST_CASE("a process that does nothing has a valid profile without samples", "[P03]") {
  Victim victim("simple");
  const Profile profile = victim.profile("/debug/pprof/profile?seconds=1&hz=1000");
  CHECK(profile.samples().empty());
  CHECK(broken_rules(profile) == kNone);
}

TEST_CASE("the rate: its setting, its parameter, and what is no rate") {
  Victim victim("cpu_shares", {}, {{"PROFAGENT_CPU_PROFILE_RATE", "200"}});
  CHECK(victim.profile("/debug/pprof/profile?seconds=1").message().period() == 5000000);
  for (const auto& [hertz, period] : std::vector<std::pair<std::string, std::int64_t>>{
           {"1", 1000000000}, {"50", 20000000}, {"1000", 1000000}}) {
    CAPTURE(hertz);
    const Profile profile = victim.profile("/debug/pprof/profile?seconds=1&hz=" + hertz);
    CHECK(profile.message().period() == period);
    CHECK(broken_rules(profile) == kNone);
  }
  for (const char* hertz : {"0", "1001", "-5", "abc", "1.5", "99999999999999999999"}) {
    CAPTURE(hertz);
    const Response refused = victim.get(std::string("/debug/pprof/profile?seconds=1&hz=") + hertz);
    CHECK(refused.status == 400);
    CHECK(refused.header("x-go-pprof") == "1");
    CHECK(refused.header("content-type") == "text/plain; charset=utf-8");
    CHECK_FALSE(refused.has("content-disposition"));
    CHECK(refused.body.find("hz") != std::string::npos);
  }
}

TEST_CASE("debug means nothing to a CPU profile", "[P01]") {
  Victim victim("cpu_shares");
  const Response answer = victim.get("/debug/pprof/profile?seconds=1&debug=1");
  CHECK(answer.status == 200);
  CHECK(answer.header("content-type") == "application/octet-stream");
  CHECK(broken_rules(Profile::parse(answer.body)) == kNone);
}

TEST_CASE("recursion keeps its leaf and repeats its frames", "[P07]") {
  Victim victim("cpu_places", {"recursion"});
  const Profile profile = victim.profile("/debug/pprof/profile?seconds=1&hz=1000");
  CHECK(broken_rules(profile) == kNone);
  std::int64_t deep = 0;
  for (const Sample& sample : profile.in("recurse")) {
    const auto depth = std::count_if(sample.stack.begin(), sample.stack.end(),
                                     [](const Frame& frame) { return frame.name == "recurse"; });
    CHECK(depth <= 40);
    if (depth == 40) deep += sample.values[1];
  }
  // A millisecond at the end of forty calls: all the rest is calling and returning.
  CHECK(deep > nanos_in(profile, "recurse") / 2);
}

TEST_CASE("two requests at the same time get a profile each, of their own window and rate", "[P09]") {
  Victim victim("cpu_places", {"same"});
  InBackground longer(victim, "/debug/pprof/profile?seconds=4");
  const Profile shorter = victim.profile("/debug/pprof/profile?seconds=1&hz=1000");
  const Profile whole = longer.profile();
  CHECK(whole.message().period() == 10000000);
  CHECK(shorter.message().period() == 1000000);
  for (const Profile& profile : {whole, shorter}) {
    CHECK(broken_rules(profile) == kNone);
    // One thread that never waits cannot use more CPU time than there was time.
    CHECK(profile.total("cpu").all() <= profile.message().duration_nanos() + kSecond / 50);
    CHECK(sampled_nanos(profile) > 0);
  }
  CHECK(begin_of(shorter) >= begin_of(whole));
  CHECK(end_of(shorter) <= end_of(whole));
}

TEST_CASE("a client that leaves ends the profile, and the next one gets its own", "[P10][P19]") {
  Victim victim("cpu_shares");
  abort_a_profile(victim, "/debug/pprof/profile?seconds=30");
  const pid_t pid = victim.process().pid();
  if (timer_count(pid) >= 0)
    CHECK(eventually([&] { return timer_count(pid) == 0; }, std::chrono::seconds(5)));
  CHECK(broken_rules(victim.profile("/debug/pprof/profile?seconds=1")) == kNone);
  CHECK(victim.process().running());
}

TEST_CASE("the end of a profile is the end of its timers", "[P10]") {
  Victim victim("cpu_shares", {"--threads", "4"});
  const pid_t pid = victim.process().pid();
  if (timer_count(pid) < 0) {
    WARN("the kernel does not tell timers");
    return;
  }
  CHECK(timer_count(pid) == 0);
  InBackground profile(victim, "/debug/pprof/profile?seconds=3");
  CHECK(eventually([&] { return timer_count(pid) >= 4; }, std::chrono::seconds(5)));
  CHECK(broken_rules(profile.profile()) == kNone);
  CHECK(timer_count(pid) == 0);
}

TEST_CASE("what is no number of seconds means thirty", "[P11]") {
  Victim victim("cpu_shares");
  const auto asks = [&](const std::string& query) {
    auto connection = std::make_unique<Connection>(victim.unix_address());
    connection->send(to_bytes({.target = "/debug/pprof/profile" + query}));
    return connection;
  };
  std::vector<std::unique_ptr<Connection>> waiting;
  for (const char* query : {"", "?seconds=", "?seconds=abc", "?seconds=0", "?seconds=-5", "?seconds=0.5"})
    waiting.push_back(asks(query));
  std::this_thread::sleep_for(std::chrono::seconds(5));
  // Not even a header, and the connection is open: the answer is still to come.
  for (const auto& connection : waiting) CHECK_FALSE(connection->has_input());
  waiting.clear();
}

TEST_CASE("thirty seconds it is", "[P11][.long]") {
  Victim victim("cpu_shares");
  const auto begin = std::chrono::steady_clock::now();
  const Profile profile = victim.profile("/debug/pprof/profile?seconds=abc");
  const std::chrono::nanoseconds elapsed = std::chrono::steady_clock::now() - begin;
  CHECK(profile.message().duration_nanos() >= 30 * kSecond);
  CHECK(profile.message().duration_nanos() <= elapsed.count());
}

TEST_CASE("time in the vDSO has its caller, once", "[P13]") {
  Victim victim("cpu_places", {"clock"});
  const Profile profile = victim.profile("/debug/pprof/profile?seconds=1&hz=1000");
  CHECK(broken_rules(profile) == kNone);
  std::int64_t in_vdso = 0;
  for (const Sample& sample : profile.samples()) {
    const Frame& leaf = sample.stack[0];
    if (leaf.mapping.find("[vdso]") == std::string::npos) continue;
    in_vdso += sample.values[1];
    const auto callers = std::count_if(sample.stack.begin(), sample.stack.end(),
                                       [](const Frame& frame) { return frame.name == "ask_the_time"; });
    CAPTURE(sample.key());
    CHECK(callers == 1);
  }
  CHECK(in_vdso > nanos_in(profile, "ask_the_time") / 10);
  CHECK(nanos_in(profile, "ask_the_time") > sampled_nanos(profile) * 9 / 10);
}

TEST_CASE("what does not fit into the table of stacks is one frame, and the total is true", "[P15]") {
  Victim victim("many_stacks", {"200000"},
                {{"PROFAGENT_MEM_PROFILE_RATE", "1"}, {"PROFAGENT_MAX_MEMORY", "16777216"}});
  CHECK(broken_rules(victim.profile("/debug/pprof/profile?seconds=1")) == kNone);
  victim.command("fill");
  REQUIRE(agent_number(victim, "dropped_stack_table_full") > 0);
  const CpuMeter meter(victim.process().pid());
  const Profile profile = victim.profile("/debug/pprof/profile?seconds=1&hz=1000");
  CHECK(broken_rules(profile) == kNone);
  const auto all = static_cast<double>(profile.total("cpu").all());
  const double used = meter.used_in(profile);
  INFO(described(profile));
  CHECK(std::abs(all - used) <= std::max(0.02 * used, untold(profile)) + meter.doubt_in(profile));
  CHECK(nanos_in(profile, "[stack table full]") > sampled_nanos(profile) * 9 / 10);
  CHECK(nanos_in(profile, "burn_elsewhere") == 0);
  CHECK(nanos_by_thread(profile).count("newcomer") == 1);
}

TEST_CASE("the first CPU profile when all memory is taken comes, or says which setting is in the way",
          "[P15]") {
  Victim victim("many_stacks", {"200000"},
                {{"PROFAGENT_MEM_PROFILE_RATE", "1"}, {"PROFAGENT_MAX_MEMORY", "8388608"}});
  victim.command("fill");
  const Response answer = victim.get("/debug/pprof/profile?seconds=1");
  const bool explains = answer.body.find("PROFAGENT_MAX_MEMORY") != std::string::npos;
  CHECK((answer.status == 200 || explains));
}

TEST_CASE("one sample for one stack, another for another path to the same leaf", "[P16]") {
  Victim victim("cpu_places", {"same"});
  const Profile profile = victim.profile("/debug/pprof/profile?seconds=1&hz=1000");
  CHECK(broken_rules(profile) == kNone);
  CHECK(has_call(profile, "first_path", "same_leaf"));
  CHECK(has_call(profile, "second_path", "same_leaf"));
  CHECK(nanos_in(profile, "same_leaf") > sampled_nanos(profile) * 9 / 10);
}

TEST_CASE("samples carry the name of their thread, and its number when asked", "[P17][F15]") {
  Victim victim("cpu_shares", {"--threads", "2", "--each"});
  const Profile named = victim.profile("/debug/pprof/profile?seconds=1");
  for (const Sample& sample : named.samples()) {
    CHECK(sample.numbers.empty());
    if (sample.has("share_1")) CHECK(sample.labels.at("thread") == "share-1");
    if (sample.has("share_2")) CHECK(sample.labels.at("thread") == "share-2");
  }
  CHECK(nanos_by_thread(named).at("share-1") > 0);
  CHECK(nanos_by_thread(named).at("share-2") > 0);

  const Profile numbered = victim.profile("/debug/pprof/profile?seconds=1&tids=1");
  CHECK(broken_rules(numbered) == kNone);
  const std::string tasks = "/proc/" + std::to_string(victim.process().pid()) + "/task/";
  CHECK_FALSE(numbered.samples().empty());
  for (const Sample& sample : numbered.samples()) {
    if (is_not_sampled(sample)) continue;
    REQUIRE(sample.numbers.count("tid") == 1);
    CHECK(read_text(tasks + std::to_string(sample.numbers.at("tid")) + "/comm") ==
          sample.labels.at("thread") + "\n");
  }
}

TEST_CASE("the agent's page tells whether a CPU profile runs") {
  Victim victim("cpu_shares");
  const auto runs = [&](const char* text) {
    const std::string page = victim.get("/debug/pprof/agent").body;
    const std::size_t at = page.find("\"cpu\"");
    return at != std::string::npos && page.find(std::string("\"running\": ") + text, at) != std::string::npos;
  };
  CHECK(runs("false"));
  InBackground profile(victim, "/debug/pprof/profile?seconds=4");
  CHECK(runs("true"));
  CHECK(broken_rules(profile.profile()) == kNone);
  CHECK(runs("false"));
  CHECK(agent_number(victim, "cpu_samples") > 0);
}
