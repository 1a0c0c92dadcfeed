#include "agent/safe/creation_recorder.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "agent/safe/arena.h"
#include "agent/safe/counters.h"
#include "agent/safe/creator_buckets.h"
#include "agent/safe/stack_table.h"
#include "test/unit/fake_unwind.h"
#include "test/unit/storm.h"

namespace profagent::safe {
namespace {

using test::set_stack;

void give_room() {
  arena.set_limit(arena.mapped() + (std::size_t{32} << 20));
}

std::uint64_t created_at(Pc leaf) {
  std::uint64_t threads = 0;
  creator_buckets.for_each([&](const CreatorBucket& row) {
    const InternedStack* stack = stack_table.find(row.stack);
    if (stack != nullptr && stack->pcs().front() == leaf) threads += row.created;
  });
  return threads;
}

TEST_CASE("nothing is recorded before the agent has started") {
  CreationRecorder recorder;
  CHECK_FALSE(recorder.is_recording());
  recorder.start();
  CHECK(recorder.is_recording());
}

TEST_CASE("a stack that has created no thread after all is no row") {
  give_room();
  set_stack({0x101, 0x1001});
  const BucketId creator = creation_recorder.find_creator({});
  REQUIRE(creator != 0);
  std::size_t rows = 0;
  creator_buckets.for_each([&](const CreatorBucket&) { ++rows; });
  CHECK(rows == 0);
  creation_recorder.on_created(creator);
  creation_recorder.on_created(creator);
  CHECK(created_at(0x101) == 2);
}

TEST_CASE("equal stacks are one row, others are others") {
  give_room();
  set_stack({0x201, 0x1001});
  const BucketId first = creation_recorder.find_creator({});
  CHECK(creation_recorder.find_creator({}) == first);
  set_stack({0x202, 0x1001});
  CHECK(creation_recorder.find_creator({}) != first);
}

TEST_CASE("threads that create at the same time are all counted") {
  give_room();
  test::run_threads(4, [&](int) {
    for (Pc i = 0; i < 10000; ++i) {
      set_stack({0x301 + i % 7});
      creation_recorder.on_created(creation_recorder.find_creator({}));
    }
  });
  std::uint64_t all = 0;
  for (Pc leaf = 0x301; leaf < 0x308; ++leaf) all += created_at(leaf);
  CHECK(all == 4 * 10000);
}

TEST_CASE("a child of fork() has created nothing, and counts from there") {
  give_room();
  set_stack({0x401});
  const BucketId creator = creation_recorder.find_creator({});
  creation_recorder.on_created(creator);
  creation_recorder.on_created(0);
  CHECK(creation_recorder.overflow() == 1);
  creation_recorder.forget_after_fork();
  CHECK(created_at(0x401) == 0);
  CHECK(creation_recorder.overflow() == 0);
  creation_recorder.on_created(creator);
  CHECK(created_at(0x401) == 1);
}

// The last one: the table stays full.
TEST_CASE("what there is no room for is counted apart, so that the total stays true") {
  give_room();
  const std::uint64_t before = counters.dropped_creator_table_full;
  const std::uint64_t overflow = creation_recorder.overflow();
  std::uint64_t refused = 0;
  for (Pc i = 0; i < kMaxCreatorBuckets + 1000; ++i) {
    set_stack({0x100000 + i});
    const BucketId creator = creation_recorder.find_creator({});
    if (creator == 0) ++refused;
    creation_recorder.on_created(creator);
  }
  CHECK(refused >= 1000);
  CHECK(creation_recorder.overflow() - overflow == refused);
  CHECK(counters.dropped_creator_table_full - before == refused);
}

}  // namespace
}  // namespace profagent::safe
