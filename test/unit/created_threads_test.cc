#include "agent/safe/created_threads.h"

#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include <pthread.h>

#include "agent/safe/arena.h"
#include "agent/safe/counters.h"
#include "test/unit/storm.h"

namespace profagent::safe {
namespace {

constexpr std::size_t kEntries = std::size_t{1} << 16;

std::unique_ptr<CreatedThreads> make_table() {
  arena.set_limit(arena.mapped() + (std::size_t{16} << 20));
  return std::make_unique<CreatedThreads>();
}

// As far apart as stacks of 256 KiB with their guard pages.
constexpr std::uintptr_t handle(std::uintptr_t number, std::uintptr_t stack = 0x41000) {
  return 0x7f0000000000 + number * stack;
}

std::multimap<std::uintptr_t, BucketId> contents(const CreatedThreads& table) {
  std::multimap<std::uintptr_t, BucketId> all;
  table.for_each([&](std::uintptr_t handle, BucketId creator) { all.emplace(handle, creator); });
  return all;
}

TEST_CASE("a thread's handle is what the threads library calls it") {
  CHECK(CreatedThreads::own_handle() == pthread_self());
  std::uintptr_t others = 0;
  std::uintptr_t real = 0;
  std::thread thread([&] {
    others = CreatedThreads::own_handle();
    real = pthread_self();
  });
  thread.join();
  CHECK(others == real);
}

TEST_CASE("every thread has its creator, whatever the size of their stacks") {
  for (const std::uintptr_t stack : {0x5000, 0x11000, 0x41000, 0x100000, 0x801000, 0x800000}) {
    CAPTURE(stack);
    const auto table = make_table();
    std::multimap<std::uintptr_t, BucketId> expected;
    for (BucketId i = 0; i < 10000; ++i) {
      table->note(handle(i, stack), i);
      expected.emplace(handle(i, stack), i);
    }
    CHECK(contents(*table).size() == expected.size());
    CHECK((contents(*table) == expected));
  }
}

TEST_CASE("the next thread with a handle replaces the one before") {
  const auto table = make_table();
  for (std::uintptr_t i = 0; i < 1000; ++i) table->note(handle(i), 1);
  for (std::uintptr_t i = 0; i < 1000; ++i) table->note(handle(i), 16383);
  std::multimap<std::uintptr_t, BucketId> expected;
  for (std::uintptr_t i = 0; i < 1000; ++i) expected.emplace(handle(i), 16383);
  CHECK(contents(*table).size() == expected.size());
  CHECK((contents(*table) == expected));
}

TEST_CASE("the highest address is kept whole, what is no descriptor's address is not kept") {
  const auto table = make_table();
  const std::uintptr_t highest = (std::uintptr_t{1} << 47) - 64;
  table->note(highest, 16383);
  const std::uint64_t before = counters.dropped_thread_creators;
  table->note(0, 1);
  table->note(highest + 64, 1);
  table->note(handle(1) + 8, 1);
  CHECK(counters.dropped_thread_creators == before + 3);
  CHECK(contents(*table) == std::multimap<std::uintptr_t, BucketId>{{highest, 16383}});
}

TEST_CASE("a full table forgets others, says so, and always knows the newest") {
  const auto table = make_table();
  const std::uint64_t before = counters.dropped_thread_creators;
  for (std::uintptr_t i = 0; i < 2 * kEntries; ++i) table->note(handle(i), 7);
  const auto all = contents(*table);
  CHECK(all.size() <= kEntries);
  CHECK(all.count(handle(2 * kEntries - 1)) == 1);
  CHECK(counters.dropped_thread_creators - before == 2 * kEntries - all.size());
}

TEST_CASE("without memory a creator is forgotten and counted") {
  CreatedThreads table;
  arena.set_limit(0);
  const std::uint64_t before = counters.dropped_thread_creators;
  table.note(handle(1), 1);
  CHECK(counters.dropped_thread_creators == before + 1);
  CHECK(contents(table).empty());
}

TEST_CASE("threads that begin at the same time do not lose each other's entries") {
  const auto table = make_table();
  constexpr std::uintptr_t kEach = 2000;
  test::run_threads(4, [&](int thread) {
    const auto number = static_cast<BucketId>(thread);
    for (std::uintptr_t i = 0; i < kEach; ++i) table->note(handle(number * kEach + i), number);
  });
  const auto all = contents(*table);
  CHECK(all.size() == 4 * kEach);
  for (std::uintptr_t i = 0; i < 4 * kEach; ++i) {
    REQUIRE(all.count(handle(i)) == 1);
    REQUIRE(all.find(handle(i))->second == i / kEach);
  }
}

}  // namespace
}  // namespace profagent::safe
