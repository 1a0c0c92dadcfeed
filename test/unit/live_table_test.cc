#include "agent/safe/live_table.h"

#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <unordered_map>
#include <vector>

#include "agent/safe/arena.h"
#include "test/unit/storm.h"

namespace profagent::safe {
namespace {

const void* at(std::uintptr_t address) {
  return reinterpret_cast<const void*>(address);
}

void give_room(std::size_t bytes = std::size_t{64} << 20) {
  arena.set_limit(arena.mapped() + bytes);
}

// A bucket that tells which address it was given for.
BucketId bucket_for(std::uintptr_t address) {
  return static_cast<BucketId>((address >> 3) * 0x9e3779b1U % LiveTable::kMaxBucketId) + 1;
}

std::uint64_t next(std::uint64_t& state) {
  state = state * 6364136223846793005ULL + 1442695040888963407ULL;
  return state >> 33;
}

TEST_CASE("what is put in comes out once, with its bucket") {
  give_room();
  const auto table = std::make_unique<LiveTable>();
  CHECK(table->remove(at(0x1000)) == 0);  // before there is any memory
  REQUIRE(table->insert(at(0x1000), 7));
  REQUIRE(table->insert(at(0x1008), LiveTable::kMaxBucketId));
  REQUIRE(table->insert(at(0x7ffffffffff8), 1));
  CHECK(table->remove(at(0x1000)) == 7);
  CHECK(table->remove(at(0x1000)) == 0);
  CHECK(table->remove(at(0x1008)) == LiveTable::kMaxBucketId);
  CHECK(table->remove(at(0x7ffffffffff8)) == 1);
  CHECK(table->remove(at(0x7ffffffffff8)) == 0);
}

TEST_CASE("addresses that it cannot hold are never found") {
  give_room();
  const auto table = std::make_unique<LiveTable>();
  CHECK(LiveTable::accepts(at(0x7ffffffffff8)));
  CHECK_FALSE(LiveTable::accepts(at(0x800000000000)));
  CHECK_FALSE(LiveTable::accepts(at(0x1004)));
  REQUIRE(table->insert(at(0x1000), 7));
  CHECK(table->remove(at(0x1004)) == 0);
  CHECK(table->remove(at(0x800000001000)) == 0);
  CHECK(table->remove(nullptr) == 0);
  CHECK(table->remove(at(0x1000)) == 7);
}

TEST_CASE("it grows with the blocks, whatever pattern their addresses have") {
  constexpr std::size_t kBlocks = 60'000;
  for (const std::uintptr_t stride : {8UL, 16UL, 48UL, 4096UL, 4112UL, 65536UL, 2UL << 20, 64UL << 20}) {
    give_room();
    const std::size_t before = arena.mapped();
    const auto table = std::make_unique<LiveTable>();
    INFO("stride " << stride);
    for (std::size_t i = 1; i <= kBlocks; ++i) REQUIRE(table->insert(at(i * stride), bucket_for(i * stride)));
    // 64 + 256 + 1024 KiB hold 172,032; a pattern that the hash does not spread would need more.
    CHECK(arena.mapped() - before <= std::size_t{1344} << 10);
    for (std::size_t i = 1; i <= kBlocks; ++i)
      REQUIRE(table->remove(at(i * stride)) == bucket_for(i * stride));
    for (std::size_t i = 1; i <= kBlocks; ++i) REQUIRE(table->remove(at(i * stride)) == 0);
  }
}

TEST_CASE("a full table says so, and has room again once a block is gone") {
  give_room(std::size_t{320} << 10);  // two tables: 40,960 words
  const auto table = std::make_unique<LiveTable>();
  std::vector<std::uintptr_t> held;
  std::uintptr_t refused = 0;
  for (std::uintptr_t address = 0x10000; refused == 0; address += 16) {
    if (table->insert(at(address), bucket_for(address))) {
      held.push_back(address);
    } else {
      refused = address;
    }
  }
  CHECK(held.size() > 20'000);
  CHECK(held.size() <= 40'960);
  CHECK(table->remove(at(refused)) == 0);
  for (const std::uintptr_t address : held) REQUIRE(table->remove(at(address)) == bucket_for(address));
  CHECK(table->insert(at(refused), 5));
  CHECK(table->remove(at(refused)) == 5);
}

TEST_CASE("steady allocating and freeing never needs more room") {
  give_room();
  const std::size_t before = arena.mapped();
  const auto table = std::make_unique<LiveTable>();
  std::uint64_t random = 42;
  std::vector<std::uintptr_t> live;
  for (int i = 0; i < 1'000'000; ++i) {
    const std::uintptr_t address = (static_cast<std::uintptr_t>(i) + 1) * 32;
    REQUIRE(table->insert(at(address), bucket_for(address)));
    live.push_back(address);
    if (live.size() > 1000) {
      const std::size_t victim = next(random) % live.size();
      REQUIRE(table->remove(at(live[victim])) == bucket_for(live[victim]));
      live[victim] = live.back();
      live.pop_back();
    }
  }
  CHECK(arena.mapped() - before == std::size_t{64} << 10);  // no tombstones: the first table is enough
}

TEST_CASE("threads that share the lines see exactly their own blocks") {
  constexpr int kThreads = 4;
  give_room();
  const auto table = std::make_unique<LiveTable>();
  std::atomic<int> wrong{0};
  test::run_threads(kThreads, [&](int thread) {
    std::unordered_map<std::uintptr_t, BucketId> model;
    std::uint64_t random = static_cast<std::uint64_t>(thread) + 1;
    for (int i = 0; i < 150'000; ++i) {
      const std::uintptr_t address =
          (next(random) % 4000 * kThreads + static_cast<std::uintptr_t>(thread)) * 16 + 16;
      if (const auto known = model.find(address); known != model.end()) {
        if (table->remove(at(address)) != known->second) ++wrong;
        model.erase(known);
      } else {
        const auto bucket = static_cast<BucketId>(next(random) % LiveTable::kMaxBucketId) + 1;
        if (table->remove(at(address)) != 0 || !table->insert(at(address), bucket)) ++wrong;
        model.emplace(address, bucket);
      }
    }
    for (const auto& [address, bucket] : model) {
      if (table->remove(at(address)) != bucket) ++wrong;
    }
  });
  CHECK(wrong == 0);
}

TEST_CASE("an address that goes back and forth between threads is never lost nor doubled") {
  constexpr std::size_t kAddresses = 64;
  constexpr int kRounds = 200'000;
  give_room();
  const auto table = std::make_unique<LiveTable>();
  // Each cell is a block: 0 free, else live with that bucket; -1 while a thread works on it.
  std::array<std::atomic<std::int64_t>, kAddresses> cells{};
  std::atomic<int> wrong{0};
  test::run_threads(3, [&](int thread) {
    std::uint64_t random = static_cast<std::uint64_t>(thread) + 17;
    for (int i = 0; i < kRounds; ++i) {
      const std::size_t number = next(random) % kAddresses;
      const void* block = at((number + 1) * 16);
      const std::int64_t state = cells[number].exchange(-1, std::memory_order_acquire);
      if (state == -1) continue;
      if (state == 0) {
        const auto bucket = static_cast<BucketId>(next(random) % LiveTable::kMaxBucketId) + 1;
        if (!table->insert(block, bucket)) ++wrong;
        cells[number].store(bucket, std::memory_order_release);
      } else {
        if (table->remove(block) != state) ++wrong;
        cells[number].store(0, std::memory_order_release);
      }
    }
  });
  CHECK(wrong == 0);
  for (std::size_t number = 0; number < kAddresses; ++number) {
    const auto left = cells[number].load() > 0 ? static_cast<BucketId>(cells[number].load()) : 0;
    CHECK(table->remove(at((number + 1) * 16)) == left);
    CHECK(table->remove(at((number + 1) * 16)) == 0);
  }
}

TEST_CASE("threads that fight for the last free word: one gets it") {
  give_room(std::size_t{64} << 10);  // one table
  const auto table = std::make_unique<LiveTable>();
  std::vector<const void*> held;
  std::uintptr_t address = 0x10000;
  for (int refused = 0; refused < 20'000; address += 16) {
    if (table->insert(at(address), 1)) {
      held.push_back(at(address));
    } else {
      ++refused;
    }
  }
  // One word is free now, and these are the blocks that may stand in it.
  REQUIRE(table->remove(held[held.size() / 2]) == 1);
  std::vector<const void*> rivals;
  for (; rivals.size() < 32; address += 16) {
    if (!table->insert(at(address), 2)) continue;
    rivals.push_back(at(address));
    REQUIRE(table->remove(at(address)) == 2);
  }
  constexpr int kThreads = 4;
  std::atomic<int> wrong{0};
  std::atomic<int> won{0};
  test::run_threads(kThreads, [&](int thread) {
    for (std::size_t i = 0; i < 400'000; ++i) {
      const void* block = rivals[i % 8 * kThreads + static_cast<std::size_t>(thread)];
      const auto bucket = static_cast<BucketId>(i % LiveTable::kMaxBucketId) + 1;
      const bool inserted = table->insert(block, bucket);
      if (table->remove(block) != (inserted ? bucket : 0)) ++wrong;
      if (inserted) ++won;
    }
  });
  CHECK(wrong == 0);
  CHECK(won > 0);
}

constinit LiveTable stormy_table;
std::atomic<int> wrong_in_handler{0};

TEST_CASE("a signal handler may use the lines that its thread is using") {
  give_room();
  std::atomic<int> wrong{0};
  test::SignalStorm storm([] {
    for (std::uintptr_t i = 0; i < 100; ++i) {
      if (!stormy_table.insert(at(i * 32 + 16), 9)) ++wrong_in_handler;
    }
    for (std::uintptr_t i = 0; i < 100; ++i) {
      if (stormy_table.remove(at(i * 32 + 16)) != 9) ++wrong_in_handler;
    }
  });
  while (!storm.is_over()) {
    for (std::uintptr_t i = 0; i < 100; ++i) {
      if (!stormy_table.insert(at(i * 32), bucket_for(i * 32))) ++wrong;
    }
    for (std::uintptr_t i = 0; i < 100; ++i) {
      if (stormy_table.remove(at(i * 32)) != bucket_for(i * 32)) ++wrong;
    }
  }
  storm.end();
  CHECK(wrong == 0);
  CHECK(wrong_in_handler == 0);
}

}  // namespace
}  // namespace profagent::safe
