#include "agent/safe/heap_recorder.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <memory>
#include <vector>

#include "agent/safe/arena.h"
#include "agent/safe/counters.h"
#include "agent/safe/heap_buckets.h"
#include "agent/safe/settings.h"
#include "agent/safe/stack_table.h"
#include "hooks/memory.h"
#include "test/unit/fake_unwind.h"
#include "test/unit/storm.h"

namespace profagent::hooks {

// In the place of the one in hooks/memory.cc, which brings the program's malloc with it.
void record_allocation(void* block, std::size_t size, const safe::StartFrame& caller) noexcept {
  const std::uint64_t rate = safe::heap_recorder.wants(size);
  if (rate != 0 && block != nullptr) safe::heap_recorder.on_alloc(block, size, rate, caller);
}

}  // namespace profagent::hooks

namespace profagent::safe {
namespace {

using test::fake_stack;
using test::set_stack;

void* at(std::uintptr_t address) {
  return reinterpret_cast<void*>(address);
}

void give_room() {
  arena.set_limit(arena.mapped() + (std::size_t{64} << 20));
}

void allocate(void* block, std::size_t size, std::uint64_t rate = 1) {
  heap_recorder.on_alloc(block, size, rate, {});
}

struct Amount {
  std::uint64_t allocations = 0;
  std::uint64_t frees = 0;
  bool operator==(const Amount&) const = default;
};

// The row of the calling thread's fake stack.
Amount row(std::size_t size, std::uint64_t rate = 1) {
  Amount amount;
  heap_buckets.for_each([&](const HeapBucket& bucket) {
    const InternedStack* stack = stack_table.find(bucket.stack);
    if (stack == nullptr || bucket.size != size || bucket.rate != rate || stack->depth != fake_stack.depth)
      return;
    if (!std::equal(stack->pcs().begin(), stack->pcs().end(), fake_stack.pcs.begin())) return;
    amount.allocations += bucket.allocations;
    amount.frees += bucket.frees;
  });
  return amount;
}

TEST_CASE("an allocation and its free are counted in the row of the allocation") {
  give_room();
  set_stack({0x10, 0x20, 0x30});
  allocate(at(0x10000), 1999993);
  allocate(at(0x20000), 1999993);
  CHECK(row(1999993) == Amount{2, 0});
  CHECK(heap_filter.may_contain(at(0x10000)));

  heap_recorder.on_free(at(0x10000));
  CHECK(row(1999993) == Amount{2, 1});
  CHECK_FALSE(heap_filter.may_contain(at(0x10000)));
  heap_recorder.on_free(at(0x10000));  // not in there any more, as nearly every block that is freed
  CHECK(row(1999993) == Amount{2, 1});
  heap_recorder.on_free(at(0x20000));
  CHECK(row(1999993) == Amount{2, 2});
}

TEST_CASE("rows are apart by stack, size and rate") {
  give_room();
  set_stack({0x11});
  allocate(at(0x10000), 100, 1);
  allocate(at(0x20000), 101, 1);
  allocate(at(0x30000), 100, 524288);
  CHECK(row(100, 1) == Amount{1, 0});
  CHECK(row(101, 1) == Amount{1, 0});
  CHECK(row(100, 524288) == Amount{1, 0});
  set_stack({0x12});
  CHECK(row(100, 1) == Amount{});
  heap_recorder.on_free(at(0x30000));
  heap_recorder.on_free(at(0x20000));
  heap_recorder.on_free(at(0x10000));
  CHECK(row(100, 1) == Amount{});  // a free belongs to who allocated
}

TEST_CASE("the stack is asked for at the depth that is set") {
  give_room();
  set_stack({});
  for (Pc pc = 1; pc <= 600; ++pc) fake_stack.pcs[fake_stack.depth++] = pc;
  const std::uint64_t truncated = counters.stacks_truncated;
  settings.stack_depth = 3;
  allocate(at(0x10000), 77);
  CHECK(fake_stack.room == 3);
  CHECK(counters.stacks_truncated == truncated + 1);
  settings.stack_depth = 512;
  allocate(at(0x20000), 77);
  CHECK(fake_stack.room == kMaxStackDepth);
  settings.stack_depth = 1'000'000;  // never beyond what the buffers take
  allocate(at(0x30000), 77);
  CHECK(fake_stack.room == kMaxStackDepth);
  settings.stack_depth = 128;
  for (const std::uintptr_t block : {0x10000, 0x20000, 0x30000}) heap_recorder.on_free(at(block));
}

TEST_CASE("a stack that was recognised is not interned again; one that was interned is remembered") {
  give_room();
  set_stack({0x21, 0x22});
  allocate(at(0x10000), 50);
  const StackId id = fake_stack.remembered;
  REQUIRE(id > kOverflowStack);
  CHECK(stack_table.find(id)->depth == 2);

  const std::size_t before = stack_table.size();
  set_stack({0x99, 0x98});  // would be new
  fake_stack.hint = id;
  allocate(at(0x20000), 50);
  CHECK(stack_table.size() == before);
  set_stack({0x21, 0x22});
  CHECK(row(50) == Amount{2, 0});
  heap_recorder.on_free(at(0x10000));
  heap_recorder.on_free(at(0x20000));
}

TEST_CASE("a sample without a stack is a sample, and said so") {
  give_room();
  set_stack({});
  fake_stack.incomplete = true;
  const std::uint64_t empty = counters.stacks_empty;
  const std::uint64_t incomplete = counters.stacks_incomplete;
  allocate(at(0x10000), 51);
  CHECK(counters.stacks_empty == empty + 1);
  CHECK(counters.stacks_incomplete == incomplete + 1);
  Amount amount;
  heap_buckets.for_each([&](const HeapBucket& bucket) {
    if (bucket.stack == kNoStack && bucket.size == 51) amount = {bucket.allocations, bucket.frees};
  });
  CHECK(amount == Amount{1, 0});
  heap_recorder.on_free(at(0x10000));
}

TEST_CASE("addresses that the table cannot hold are dropped and counted") {
  give_room();
  set_stack({0x31});
  const std::uint64_t dropped = counters.dropped_address;
  allocate(at(0x10004), 10);
  allocate(at(std::uintptr_t{1} << 47), 10);
  CHECK(counters.dropped_address == dropped + 2);
  CHECK(row(10) == Amount{});
  heap_recorder.on_free(at(0x10004));
  heap_recorder.on_free(at(std::uintptr_t{1} << 47));
}

TEST_CASE("a free that went past the hooks is made up for when its address comes again") {
  give_room();
  set_stack({0x32});
  allocate(at(0x10000), 10);
  allocate(at(0x10000), 20);
  CHECK(row(10) == Amount{1, 1});
  CHECK(row(20) == Amount{1, 0});
  heap_recorder.on_free(at(0x10000));
  CHECK(row(20) == Amount{1, 1});
  CHECK_FALSE(heap_filter.may_contain(at(0x10000)));
}

// The hooks' side of realloc, with an allocator that does as it is told.
void* reallocate(void* block, std::size_t size, void* result) {
  const bool due = HeapRecorder::is_due(size);
  return hooks::reallocate_recorded(block, size, due, [&] {
    CHECK(live_table.remove(block) ==
          0);  // gone before, or another thread's new record would be taken for it
    return result;
  });
}

TEST_CASE("realloc: moved, grown in place, failed, freed, begun") {
  give_room();
  set_stack({0x33});
  thread_state = {};
  heap_recorder.set_rate(1);
  allocate(at(0x10000), 100);

  CHECK(reallocate(at(0x10000), 200, at(0x20000)) == at(0x20000));
  CHECK(row(100) == Amount{1, 1});
  CHECK(row(200) == Amount{1, 0});
  CHECK_FALSE(heap_filter.may_contain(at(0x10000)));

  CHECK(reallocate(at(0x20000), 300, at(0x20000)) == at(0x20000));
  CHECK(row(200) == Amount{1, 1});
  CHECK(row(300) == Amount{1, 0});

  CHECK(reallocate(at(0x20000), ~std::size_t{0} - 4096, nullptr) == nullptr);
  CHECK(row(300) == Amount{1, 0});
  CHECK(row(~std::size_t{0} - 4096) == Amount{});
  CHECK(heap_filter.may_contain(at(0x20000)));

  CHECK(reallocate(at(0x20000), 0, nullptr) == nullptr);
  CHECK(row(300) == Amount{1, 1});
  CHECK_FALSE(heap_filter.may_contain(at(0x20000)));

  CHECK(reallocate(nullptr, 400, at(0x30000)) == at(0x30000));
  CHECK(row(400) == Amount{1, 0});

  CHECK(reallocate(nullptr, 400, nullptr) == nullptr);
  CHECK(row(400) == Amount{1, 0});
  // Some allocators answer realloc(p, 0) with a block, which weighs nothing.
  CHECK(reallocate(at(0x30000), 0, at(0x40000)) == at(0x40000));
  CHECK(row(400) == Amount{1, 1});
  CHECK_FALSE(heap_filter.may_contain(at(0x40000)));
  heap_recorder.set_rate(0);
}

TEST_CASE("turning sampling off keeps what is known") {
  give_room();
  set_stack({0x34});
  thread_state = {};
  heap_recorder.set_rate(1);
  allocate(at(0x10000), 100);
  heap_recorder.set_rate(0);
  heap_recorder.on_free(at(0x10000));
  CHECK(row(100) == Amount{1, 1});
}

TEST_CASE("errno is as it was") {
  give_room();
  set_stack({0x35});
  errno = 77;
  allocate(at(0x10000), 100);
  heap_recorder.on_free(at(0x10000));
  CHECK(errno == 77);
}

// A model of a program: blocks that live at fixed addresses, close enough to share pages and cache lines. A
// cell holds the size of the block that lives there, 0 when it is free, -1 while a thread is at it, as an
// allocator's lock has it.
constexpr std::size_t kCells = 512;
constexpr std::size_t kSizes = 40;
struct Heap {
  std::array<std::atomic<std::int64_t>, kCells> cells{};
  std::array<std::atomic<std::uint64_t>, kSizes + 1> allocations{};
  std::array<std::atomic<std::uint64_t>, kSizes + 1> frees{};
  std::uintptr_t base = 0;
};

void act(Heap& heap, std::uint64_t random) {
  const std::size_t number = random % kCells;
  void* block = at(heap.base + number * 32);
  const std::int64_t state = heap.cells[number].exchange(-1, std::memory_order_acquire);
  if (state == -1) return;
  if (state == 0) {
    const std::size_t size = random / kCells % kSizes + 1;
    ++heap.allocations[size];
    allocate(block, size);
    heap.cells[number].store(static_cast<std::int64_t>(size), std::memory_order_release);
  } else if (random / kCells % 5 == 0) {
    const BucketId taken = heap_recorder.take(block);  // a realloc that fails
    heap_recorder.put_back(block, taken);
    heap.cells[number].store(state, std::memory_order_release);
  } else {
    ++heap.frees[static_cast<std::size_t>(state)];
    heap_recorder.on_free(block);
    heap.cells[number].store(0, std::memory_order_release);
  }
}

void check_and_empty(Heap& heap) {
  for (std::size_t size = 1; size <= kSizes; ++size) {
    INFO("size " << size);
    CHECK(row(size) == Amount{heap.allocations[size], heap.frees[size]});
  }
  for (std::size_t i = 0; i < kCells; ++i) {
    if (heap.cells[i] == 0) CHECK(live_table.remove(at(heap.base + i * 32)) == 0);
    if (heap.cells[i] > 0) heap_recorder.on_free(at(heap.base + i * 32));
  }
  for (std::size_t i = 0; i < kCells; ++i) REQUIRE_FALSE(heap_filter.may_contain(at(heap.base + i * 32)));
}

TEST_CASE("threads that free each other's blocks: the counts are the model's, to the last one") {
  give_room();
  const auto heap = std::make_unique<Heap>();
  heap->base = 0x40000000;
  const std::uint64_t dropped = counters.dropped_contended + counters.dropped_live_table_full;
  test::run_threads(4, [&](int thread) {
    set_stack({0x41, 0x42});
    std::uint64_t random = static_cast<std::uint64_t>(thread) * 77 + 5;
    for (int i = 0; i < 150'000; ++i) {
      random = random * 6364136223846793005ULL + 1442695040888963407ULL;
      act(*heap, random >> 20);
    }
  });
  set_stack({0x41, 0x42});
  REQUIRE(counters.dropped_contended + counters.dropped_live_table_full == dropped);
  check_and_empty(*heap);
}

constinit Heap stormy_heap;
std::uint64_t handler_random = 99;

TEST_CASE("signal handlers that allocate and free in the middle of it: the counts are the model's") {
  give_room();
  stormy_heap.base = 0x80000000;
  set_stack({0x51, 0x52});
  {
    test::SignalStorm storm([] {
      for (int i = 0; i < 20; ++i) {
        handler_random = handler_random * 6364136223846793005ULL + 1442695040888963407ULL;
        act(stormy_heap, handler_random >> 20);
      }
    });
    std::uint64_t random = 5;
    while (!storm.is_over()) {
      for (int i = 0; i < 200; ++i) {
        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        act(stormy_heap, random >> 20);
      }
    }
  }
  check_and_empty(stormy_heap);
}

TEST_CASE("memory that runs out mid-way: every sample is recorded or counted as lost, none is half there") {
  set_stack({0x61});
  arena.set_limit(arena.mapped() + (std::size_t{700} << 10));
  const std::uint64_t lost_before = counters.dropped_bucket_table_full + counters.dropped_live_table_full;
  std::vector<std::uintptr_t> blocks;
  for (std::uintptr_t i = 0; i < 200'000; ++i) {
    const std::uintptr_t block = 0x200000000 + i * 4096;
    // New rows and new blocks, so that both tables meet the cap.
    allocate(at(block), 1'000'000 + i / 4);
    blocks.push_back(block);
  }
  const std::uint64_t lost =
      counters.dropped_bucket_table_full + counters.dropped_live_table_full - lost_before;
  std::uint64_t recorded = 0;
  heap_buckets.for_each([&](const HeapBucket& bucket) {
    if (bucket.size >= 1'000'000 && bucket.size < 1'050'000) recorded += bucket.allocations;
  });
  CHECK(lost > 0);
  CHECK(recorded > 0);
  CHECK(recorded + lost == blocks.size());
  std::uint64_t marked = 0;
  for (const std::uintptr_t block : blocks) marked += heap_filter.may_contain(at(block)) ? 1 : 0;
  CHECK(marked == recorded);
  for (const std::uintptr_t block : blocks) heap_recorder.on_free(at(block));
  std::uint64_t live = 0;
  heap_buckets.for_each([&](const HeapBucket& bucket) { live += bucket.allocations - bucket.frees; });
  CHECK(live == 0);
  for (const std::uintptr_t block : blocks) REQUIRE_FALSE(heap_filter.may_contain(at(block)));
}

TEST_CASE("a new stack without room is charged to the overflow, which is not remembered") {
  set_stack({0x71, 0x72, 0x73});
  // Room for rows, not for a chunk of records.
  arena.set_limit(arena.mapped() + Arena::kChunkBytes - 4096);
  while (arena.allocate(16) != nullptr) {
  }
  const std::uint64_t dropped = counters.dropped_stack_table_full;
  allocate(at(0x10000), 100);
  allocate(at(0x20000), 100);
  CHECK(counters.dropped_stack_table_full == dropped + 2);
  CHECK(fake_stack.remembered == kNoStack);
  Amount amount;
  heap_buckets.for_each([&](const HeapBucket& bucket) {
    if (bucket.stack == kOverflowStack && bucket.size == 100) amount = {bucket.allocations, bucket.frees};
  });
  CHECK(amount == Amount{2, 0});
  heap_recorder.on_free(at(0x10000));
  heap_recorder.on_free(at(0x20000));
}

}  // namespace
}  // namespace profagent::safe
