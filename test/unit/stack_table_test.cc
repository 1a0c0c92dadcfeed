#include "agent/safe/stack_table.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <memory>
#include <vector>

#include "agent/safe/arena.h"
#include "agent/safe/counters.h"
#include "test/unit/storm.h"

namespace profagent::safe {
namespace {

// No module lies here, so that only the stack table takes memory.
constexpr Pc kNowhere = 0x1000;
constexpr std::size_t kCapacity = (std::size_t{1} << 17) - 2;

std::vector<Pc> stack_of(std::size_t number, std::size_t depth = 5) {
  std::vector<Pc> pcs(depth);
  for (std::size_t i = 0; i < depth; ++i) pcs[i] = kNowhere + number * (i + 1) + i;
  return pcs;
}

// Any hash will do; this one spreads.
std::uint64_t hash_of(const std::vector<Pc>& pcs) {
  std::uint64_t hash = 1;
  for (const Pc pc : pcs) hash = (hash ^ pc) * 0x9e3779b97f4a7c15ULL;
  return hash ^ hash >> 29;
}

StackId intern(StackTable& table, const std::vector<Pc>& pcs) {
  return table.intern(pcs, hash_of(pcs));
}

bool holds(const StackTable& table, StackId id, const std::vector<Pc>& pcs) {
  const InternedStack* found = table.find(id);
  return found != nullptr && std::equal(found->pcs().begin(), found->pcs().end(), pcs.begin(), pcs.end());
}

void give_room(std::size_t bytes = std::size_t{64} << 20) {
  arena.set_limit(arena.mapped() + bytes);
}

TEST_CASE("the same stack is the same number, another is another") {
  give_room();
  const auto table = std::make_unique<StackTable>();
  const std::vector<Pc> stack = stack_of(7);
  const StackId id = intern(*table, stack);
  CHECK(id > kOverflowStack);
  CHECK(intern(*table, stack) == id);
  CHECK(holds(*table, id, stack));
  CHECK(table->find(id)->hash == hash_of(stack));

  std::vector<Pc> prefix = stack;
  prefix.pop_back();
  std::vector<Pc> last_differs = stack;
  last_differs.back() ^= 1;
  CHECK(intern(*table, prefix) != id);
  CHECK(intern(*table, last_differs) != id);
  CHECK(table->size() == 3);
}

TEST_CASE("an empty stack, the overflow and unknown numbers have no content") {
  give_room();
  const auto table = std::make_unique<StackTable>();
  CHECK(table->intern({}, 42) == kNoStack);
  CHECK(table->size() == 0);
  CHECK(table->find(kNoStack) == nullptr);
  CHECK(table->find(kOverflowStack) == nullptr);
  CHECK(table->find(kOverflowStack + 1) == nullptr);
  CHECK(table->find(0xffffffff) == nullptr);
}

TEST_CASE("stacks are told apart even when all their hashes are one") {
  give_room();
  for (const std::uint64_t hash : {std::uint64_t{0}, std::uint64_t{0xffffffff}, ~std::uint64_t{0}}) {
    const auto table = std::make_unique<StackTable>();
    std::vector<StackId> ids;
    for (std::size_t i = 0; i < 64; ++i) ids.push_back(table->intern(stack_of(i), hash));
    for (std::size_t i = 0; i < 64; ++i) {
      REQUIRE(holds(*table, ids[i], stack_of(i)));
      REQUIRE(table->intern(stack_of(i), hash) == ids[i]);
    }
    // As many as a search looks at; the next one is told so.
    const std::uint64_t dropped = counters.dropped_stack_table_full;
    CHECK(table->intern(stack_of(64), hash) == kOverflowStack);
    CHECK(counters.dropped_stack_table_full == dropped + 1);
  }
}

TEST_CASE("the deepest stack fits") {
  give_room();
  const auto table = std::make_unique<StackTable>();
  const std::vector<Pc> deep = stack_of(3, kMaxStackDepth);
  CHECK(holds(*table, intern(*table, deep), deep));
}

TEST_CASE("a full table drops and counts, keeps what it has, and takes no more memory") {
  give_room();
  const auto table = std::make_unique<StackTable>();
  // Consecutive hashes fill the index without a gap.
  for (std::size_t i = 0; i < kCapacity; ++i) {
    const std::array<Pc, 2> pcs{kNowhere, kNowhere + i};
    REQUIRE(table->intern(pcs, i) == i + kOverflowStack + 1);
  }
  CHECK(table->size() == kCapacity);

  const std::uint64_t dropped = counters.dropped_stack_table_full;
  const std::size_t mapped = arena.mapped();
  for (std::size_t i = 0; i < 3000; ++i)
    REQUIRE(table->intern(stack_of(i, 400), kCapacity) == kOverflowStack);
  CHECK(counters.dropped_stack_table_full == dropped + 3000);
  CHECK(arena.mapped() == mapped);
  CHECK(table->size() == kCapacity);
  for (std::size_t i = 0; i < kCapacity; ++i) {
    const std::array<Pc, 2> pcs{kNowhere, kNowhere + i};
    REQUIRE(table->intern(pcs, i) == i + kOverflowStack + 1);
  }
}

TEST_CASE("without memory it drops and counts; with memory again it goes on") {
  const auto table = std::make_unique<StackTable>();
  arena.set_limit(arena.mapped());
  CHECK(intern(*table, stack_of(1)) == kOverflowStack);  // not even the index

  give_room((std::size_t{2} << 20));  // the index, one chunk of numbers, and a few stacks
  std::size_t kept = 0;
  while (intern(*table, stack_of(kept, 100)) != kOverflowStack) ++kept;
  CHECK(kept > 100);
  for (std::size_t i = 0; i < 2 * kCapacity; ++i)
    REQUIRE(intern(*table, stack_of(kept, 100)) == kOverflowStack);
  CHECK(table->size() == kept);

  give_room();
  for (std::size_t i = 0; i < 2 * kept; ++i) {
    const StackId id = intern(*table, stack_of(i, 100));
    REQUIRE(holds(*table, id, stack_of(i, 100)));
  }
  CHECK(table->size() == 2 * kept);
}

TEST_CASE("threads that intern the same stacks at once agree on the numbers") {
  constexpr int kThreads = 4;
  constexpr std::size_t kStacks = 3000;
  give_room();
  for (int round = 0; round < 5; ++round) {
    const auto table = std::make_unique<StackTable>();
    std::vector<std::vector<Pc>> stacks;
    for (std::size_t i = 0; i < kStacks; ++i) stacks.push_back(stack_of(i, 1 + i % 40));
    const std::uint64_t raced = counters.stacks_raced;
    std::array<std::vector<StackId>, kThreads> ids;
    test::run_threads(kThreads, [&](int thread) {
      auto& mine = ids[static_cast<std::size_t>(thread)];
      mine.resize(kStacks);
      for (std::size_t pass = 0; pass < 2; ++pass) {
        // Half of them in the same order, which collides; half the other way round.
        for (std::size_t i = 0; i < kStacks; ++i) {
          const std::size_t at = thread % 2 == 0 ? i : kStacks - 1 - i;
          mine[at] = intern(*table, stacks[at]);
        }
      }
    });
    for (std::size_t i = 0; i < kStacks; ++i) {
      REQUIRE(holds(*table, ids[0][i], stacks[i]));
      for (const auto& other : ids) REQUIRE(other[i] == ids[0][i]);
    }
    CHECK(table->size() == kStacks + (counters.stacks_raced - raced));
  }
}

constinit StackTable stormy_table;
constexpr std::size_t kStormStacks = 2000;
std::array<Pc, 12> storm_stack(std::size_t number) {
  std::array<Pc, 12> pcs{};
  for (std::size_t i = 0; i < pcs.size(); ++i) pcs[i] = kNowhere + number * 64 + i;
  return pcs;
}
std::uint64_t storm_hash(std::size_t number) {
  return (number + 1) * 0x9e3779b97f4a7c15ULL;
}
std::atomic<std::size_t> handler_at{0};
std::array<std::atomic<StackId>, kStormStacks> handler_ids;

TEST_CASE("a signal handler may intern the very stack that its thread is interning") {
  give_room();
  std::array<StackId, kStormStacks> ids{};
  test::SignalStorm storm([] {
    for (std::size_t ahead = 0; ahead < 3; ++ahead) {
      const std::size_t number = (handler_at.load() + ahead) % kStormStacks;
      handler_ids[number] = stormy_table.intern(storm_stack(number), storm_hash(number));
    }
  });
  for (std::size_t i = 0; i < kStormStacks; ++i) {
    handler_at = i;
    ids[i] = stormy_table.intern(storm_stack(i), storm_hash(i));
    // A signal every few stacks.
    while (!storm.is_over() && i % 4 == 0 && handler_ids[i] == 0) {
      REQUIRE(stormy_table.intern(storm_stack(i), storm_hash(i)) == ids[i]);
    }
  }
  storm.end();
  for (std::size_t i = 0; i < kStormStacks; ++i) {
    const InternedStack* found = stormy_table.find(ids[i]);
    REQUIRE(found != nullptr);
    REQUIRE(std::ranges::equal(found->pcs(), storm_stack(i)));
    if (handler_ids[i] != 0) REQUIRE(handler_ids[i] == ids[i]);
  }
}

}  // namespace
}  // namespace profagent::safe
