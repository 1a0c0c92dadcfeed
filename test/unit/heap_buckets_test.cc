#include "agent/safe/heap_buckets.h"

#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "agent/safe/arena.h"
#include "test/unit/storm.h"

namespace profagent::safe {
namespace {

void give_room(std::size_t bytes = std::size_t{64} << 20) {
  arena.set_limit(arena.mapped() + bytes);
}

using Key = std::tuple<StackId, std::uint64_t, std::uint64_t>;

std::map<Key, std::uint64_t> rows_of(const HeapBuckets& buckets, int* doubled = nullptr) {
  std::map<Key, std::uint64_t> rows;
  buckets.for_each([&](const HeapBucket& row) {
    const bool fresh = rows.emplace(Key{row.stack, row.size, row.rate}, row.allocations.load()).second;
    if (!fresh && doubled != nullptr) ++*doubled;
  });
  return rows;
}

TEST_CASE("a row is a stack, a size and a rate") {
  give_room();
  const auto buckets = std::make_unique<HeapBuckets>();
  const BucketId id = buckets->find_or_add({5, 100, 524288});
  REQUIRE(id != 0);
  CHECK(buckets->find_or_add({5, 100, 524288}) == id);
  CHECK(buckets->find_or_add({6, 100, 524288}) != id);
  CHECK(buckets->find_or_add({5, 101, 524288}) != id);
  CHECK(buckets->find_or_add({5, 100, 1}) != id);
  CHECK(buckets->size() == 4);
  CHECK((*buckets)[id].stack == 5);
  CHECK((*buckets)[id].size == 100);
  CHECK((*buckets)[id].rate == 524288);
  CHECK((*buckets)[id].allocations == 0);
  CHECK((*buckets)[id].frees == 0);
}

TEST_CASE("extreme keys are keys") {
  give_room();
  const auto buckets = std::make_unique<HeapBuckets>();
  const BucketId none = buckets->find_or_add({kNoStack, 0, 1});
  const BucketId most = buckets->find_or_add({~StackId{0}, ~std::uint64_t{0}, std::uint64_t{1} << 40});
  CHECK(none != 0);
  CHECK(most != 0);
  CHECK(none != most);
  CHECK(buckets->find_or_add({kNoStack, 0, 1}) == none);
}

TEST_CASE("only rows that were counted are shown") {
  give_room();
  const auto buckets = std::make_unique<HeapBuckets>();
  const BucketId id = buckets->find_or_add({5, 100, 1});
  CHECK(rows_of(*buckets).empty());
  (*buckets)[id].allocations = 3;
  CHECK(rows_of(*buckets) == std::map<Key, std::uint64_t>{{{5, 100, 1}, 3}});
}

TEST_CASE("a full table refuses what is new and finds what is old") {
  give_room();
  const auto buckets = std::make_unique<HeapBuckets>();
  constexpr StackId kRows = (1U << 18) - 1;
  std::vector<BucketId> ids;
  for (StackId stack = 1; stack <= kRows; ++stack) ids.push_back(buckets->find_or_add({stack, 64, 1}));
  std::vector<bool> seen(kRows + 1);
  for (const BucketId id : ids) {
    REQUIRE(id != 0);
    REQUIRE(id <= LiveTable::kMaxBucketId);
    REQUIRE_FALSE(seen.at(id));
    seen[id] = true;
  }
  for (StackId stack = 1; stack <= 1000; ++stack) REQUIRE(buckets->find_or_add({kRows + stack, 64, 1}) == 0);
  for (StackId stack = 1; stack <= kRows; ++stack)
    REQUIRE(buckets->find_or_add({stack, 64, 1}) == ids[stack - 1]);
  CHECK(buckets->size() == kRows);
}

TEST_CASE("without memory it refuses; with memory again it has lost no row") {
  const auto buckets = std::make_unique<HeapBuckets>();
  arena.set_limit(arena.mapped());
  CHECK(buckets->find_or_add({1, 64, 1}) == 0);
  give_room((std::size_t{4} << 20) + (std::size_t{100} << 10));  // the index and one segment
  StackId stack = 1;
  while (buckets->find_or_add({stack, 64, 1}) != 0) ++stack;
  const std::size_t kept = buckets->size();
  CHECK(kept == stack - 1);
  for (StackId i = 0; i < 300'000; ++i) REQUIRE(buckets->find_or_add({stack, 64, 1}) == 0);
  CHECK(buckets->size() == kept);
  give_room();
  CHECK(buckets->find_or_add({stack, 64, 1}) != 0);
  CHECK(buckets->size() == kept + 1);
}

TEST_CASE("threads that count the same rows lose nothing, and a reader sees whole rows") {
  constexpr int kThreads = 3;
  constexpr std::uint64_t kKeys = 5000;
  constexpr std::uint64_t kPasses = 20;
  give_room();
  const auto buckets = std::make_unique<HeapBuckets>();
  std::atomic<int> running{kThreads};
  std::atomic<int> torn{0};
  std::atomic<int> backwards{0};
  test::run_threads(kThreads + 1, [&](int thread) {
    if (thread == kThreads) {
      while (running > 0) {
        buckets->for_each([&](const HeapBucket& row) {
          if (row.size != row.stack * 16ULL || row.rate != row.stack % 3 + 1) ++torn;
          const std::uint64_t frees = row.frees.load(std::memory_order_acquire);
          if (row.allocations.load(std::memory_order_acquire) < frees) ++backwards;
        });
      }
      return;
    }
    for (std::uint64_t i = 0; i < kKeys * kPasses; ++i) {
      const auto stack = static_cast<StackId>((thread == 0 ? i : kKeys * kPasses - i) % kKeys + 1);
      const BucketId id = buckets->find_or_add({stack, stack * 16ULL, stack % 3 + 1});
      (*buckets)[id].allocations.fetch_add(1, std::memory_order_release);
      (*buckets)[id].frees.fetch_add(1, std::memory_order_release);
    }
    --running;
  });
  CHECK(torn == 0);
  CHECK(backwards == 0);
  int doubled = 0;
  const std::map<Key, std::uint64_t> rows = rows_of(*buckets, &doubled);
  CHECK(doubled == 0);
  REQUIRE(rows.size() == kKeys);
  for (const auto& [key, allocations] : rows) REQUIRE(allocations == kThreads * kPasses);
}

constinit HeapBuckets stormy_buckets;
constexpr StackId kStormKeys = 200'000;
std::atomic<std::uint64_t> added{0};
std::atomic<std::uint64_t> in_handler{0};

TEST_CASE("a signal handler may add the very row that its thread is adding") {
  give_room();
  test::SignalStorm storm([] {
    const auto stack = static_cast<StackId>((added + in_handler.fetch_add(1) % 2) % kStormKeys);
    stormy_buckets[stormy_buckets.find_or_add({stack, 8, 1})].allocations.fetch_add(
        1, std::memory_order_release);
  });
  while (!storm.is_over()) {
    for (int i = 0; i < 20; ++i, ++added) {
      const BucketId id = stormy_buckets.find_or_add({static_cast<StackId>(added % kStormKeys), 8, 1});
      stormy_buckets[id].allocations.fetch_add(1, std::memory_order_release);
    }
  }
  storm.end();
  int doubled = 0;
  std::uint64_t total = 0;
  for (const auto& [key, allocations] : rows_of(stormy_buckets, &doubled)) total += allocations;
  CHECK(doubled == 0);
  CHECK(total == added + in_handler);
}

}  // namespace
}  // namespace profagent::safe
