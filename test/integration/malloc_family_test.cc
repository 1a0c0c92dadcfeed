// M10 and rows C3-C8, C15 of the fault table: every way to get, move and return a block is counted once and
// balanced.
#include <map>
#include <sstream>

#include <catch2/catch.hpp>

#include "test/support/victim.h"

using namespace profagent::test;

namespace {

const Environment kExact = {{"PROFAGENT_MEM_PROFILE_RATE", "1"}};

void check_in_use(const Profile& heap, const std::map<std::string, std::int64_t>& expected) {
  for (const auto& [function, bytes] : expected) {
    CAPTURE(function);
    CHECK(heap.total("inuse_space").in(function) == bytes);
    CHECK(heap.total("inuse_objects").in(function) == (bytes == 0 ? 0 : 1));
    CHECK(heap.total("alloc_objects").in(function) == 1);
  }
}

}  // namespace

TEST_CASE("every member of malloc's family counts, moves and ends as it should", "[M10][C3][C5]") {
  Victim victim("family", {}, kExact);
  // What was moved or freed by realloc is no longer where it was allocated.
  const std::map<std::string, std::int64_t> held = {{"via_malloc", 1009},
                                                    {"via_calloc", 3 * 1013},
                                                    {"via_realloc_null", 1019},
                                                    {"via_reallocarray", 5105},
                                                    {"via_aligned_alloc", 1984},
                                                    {"via_memalign", 1033},
                                                    {"via_valloc", 1039},
                                                    {"via_pvalloc", 8192},
                                                    {"via_strdup", 50},
                                                    {"via_big", 40000003},
                                                    {"via_posix_memalign", 1049},
                                                    {"via_realloc_grow", 100003},
                                                    {"via_realloc_shrink", 1061},
                                                    {"via_realloc_same", 1063},
                                                    {"via_realloc_remap", 60000011},
                                                    {"via_realloc_aligned", 100043},
                                                    {"before_grow", 0},
                                                    {"before_shrink", 0},
                                                    {"before_same", 0},
                                                    {"before_remap", 0},
                                                    {"before_free_by_realloc", 0},
                                                    {"before_aligned_grow", 0}};
  check_in_use(victim.profile(), held);
  // Those and no others: a block of no bytes has no weight, as in Go.
  CHECK(victim.profile().total("inuse_objects").in("main") == 16);
  CHECK(victim.profile().total("alloc_objects").in("via_zero") == 0);
  victim.command("free");
  const Profile after = victim.profile();
  for (const auto& [function, bytes] : held) {
    CAPTURE(function);
    CHECK(after.total("inuse_space").in(function) == 0);
    CHECK(after.total("inuse_objects").in(function) == 0);
    CHECK(after.total("alloc_objects").in(function) == 1);
  }
  CHECK(after.total("inuse_objects").in("main") == 0);
  CHECK(after.total("inuse_objects").in("realloc_to_zero") == 0);
}

TEST_CASE("every form of operator new counts once, also for the malloc underneath", "[M10][C15]") {
  Victim victim("news", {}, kExact);
  const std::map<std::string, std::int64_t> held = {{"via_new", 2003},
                                                    {"via_new_array", 2011},
                                                    {"via_new_nothrow", 2017},
                                                    {"via_new_array_nothrow", 2027},
                                                    {"via_new_aligned", 1280}};
  check_in_use(victim.profile(), held);
  CHECK(victim.profile().total("inuse_space").in("via_vector") >= 2039);
  // libstdc++ rounds the size of an aligned block up to its alignment.
  CHECK(victim.profile().total("inuse_space").in("via_new_array_aligned") == 2048);
  victim.command("million");
  const Profile many = victim.profile();
  CHECK(many.total("inuse_objects").in("make_million") == 1000000);
  CHECK(many.total("inuse_space").in("make_million") == 100000000);
  victim.command("free");
  const Profile after = victim.profile();
  for (const auto& [function, bytes] : held) CHECK(after.total("inuse_space").in(function) == 0);
  CHECK(after.total("inuse_space").in("via_vector") == 0);
  CHECK(after.total("inuse_space").in("too_much") == 0);
}

TEST_CASE("blocks that two threads throw to each other are counted exactly", "[M10][C6]") {
  Victim victim("pingpong", {"400000"}, kExact);
  std::istringstream words(victim.process().out());
  std::string live;
  std::int64_t pings = -1;
  std::int64_t pongs = -1;
  words >> live >> pings >> pongs;
  REQUIRE(live == "live");
  const Profile heap = victim.profile();
  CHECK(heap.total("inuse_objects").in("ping") == pings);
  CHECK(heap.total("inuse_objects").in("pong") == pongs);
  CHECK(heap.total("inuse_space").in("ping") == 96 * pings);
  CHECK(heap.total("alloc_objects").in("ping") == 400000);
  CHECK(heap.total("alloc_objects").in("pong") == 400000);
}

TEST_CASE("what fails leaves no trace but errno", "[C7][C5]") {
  Victim victim("overflow", {}, kExact);
  CHECK(victim.process().out() == "ready\n");
  const Profile heap = victim.profile();
  CHECK(heap.total("alloc_objects").in("impossible") == 0);
  CHECK(heap.total("alloc_objects").in("survivor") == 1);
  CHECK(heap.total("inuse_space").in("survivor") == 4441);
}

TEST_CASE("a failed realloc keeps its block, where it was", "[C5]") {
  Victim victim("realloc_fail", {}, kExact);
  CHECK(victim.process().out() == "ready\n");
  const Profile heap = victim.profile();
  CHECK(heap.total("inuse_space").in("first_home") == 5000011);
  CHECK(heap.total("inuse_objects").in("first_home") == 1);
  CHECK(heap.total("alloc_objects").in("first_home") == 1);
  CHECK(heap.total("alloc_objects").in("failing_realloc") == 0);
  victim.command("again");
  const Profile moved = victim.profile();
  CHECK(moved.total("inuse_space").in("first_home") == 0);
  CHECK(moved.total("inuse_space").in("second_home") == 6000011);
  victim.command("free");
  CHECK(victim.profile().total("inuse_space").in("second_home") == 0);
}

TEST_CASE("pointers, sizes and alignments are the allocator's own", "[C4]") {
  const Outcome alone = run_victim_alone("shape");
  REQUIRE(alone.ok());
  for (const char* rate : {"1", "4096", "0"}) {
    CAPTURE(rate);
    const Outcome profiled = run_victim("shape", {}, {{"PROFAGENT_MEM_PROFILE_RATE", rate}});
    CHECK(profiled.ok());
    CHECK(profiled.out == alone.out);
    CHECK(profiled.err.empty());
  }
}

TEST_CASE("errno comes out as it went in", "[A10][C8]") {
  for (const char* rate : {"1", "524288"}) {
    const Outcome outcome = run_victim("errno_keeper", {}, {{"PROFAGENT_MEM_PROFILE_RATE", rate}});
    CHECK(outcome.out == "changed 0 times\n");
    CHECK(outcome.ok());
  }
}
