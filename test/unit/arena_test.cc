#include "agent/safe/arena.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <vector>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/safe/lazy.h"
#include "test/unit/storm.h"

namespace profagent::safe {
namespace {

constexpr std::size_t kChunk = Arena::kChunkBytes;

bool is_zero(const void* memory, std::size_t bytes) {
  const auto* begin = static_cast<const unsigned char*>(memory);
  return std::all_of(begin, begin + bytes, [](unsigned char byte) { return byte == 0; });
}

struct Piece {
  unsigned char* begin;
  std::size_t bytes;
  unsigned char mark;
};

// Fills each piece when it is taken; an overlap shows in the first one's content.
Piece take(Arena& arena, std::size_t bytes, unsigned char mark) {
  auto* memory = static_cast<unsigned char*>(arena.allocate(bytes));
  if (memory != nullptr) std::memset(memory, mark, bytes);
  return {memory, bytes, mark};
}

bool is_intact(const Piece& piece) {
  return std::all_of(piece.begin, piece.begin + piece.bytes,
                     [&](unsigned char byte) { return byte == piece.mark; });
}

TEST_CASE("records are zeroed, 16-byte aligned and apart") {
  const auto arena = std::make_unique<Arena>();
  std::vector<Piece> pieces;
  for (std::size_t i = 1; i <= 3000; ++i) {
    auto* memory = static_cast<unsigned char*>(arena->allocate(i));
    REQUIRE(memory != nullptr);
    REQUIRE(reinterpret_cast<std::uintptr_t>(memory) % 16 == 0);
    REQUIRE(is_zero(memory, i));
    std::memset(memory, static_cast<int>(i % 255 + 1), i);
    pieces.push_back({memory, i, static_cast<unsigned char>(i % 255 + 1)});
  }
  for (const Piece& piece : pieces) REQUIRE(is_intact(piece));
  CHECK(arena->mapped() > 4 * kChunk);  // so chunks were changed on the way
  CHECK(arena->mapped() % kChunk == 0);
}

TEST_CASE("a record can fill a chunk, but not more") {
  const auto arena = std::make_unique<Arena>();
  void* largest = arena->allocate(kChunk);
  REQUIRE(largest != nullptr);
  CHECK(is_zero(largest, kChunk));
  CHECK(arena->allocate(kChunk + 1) == nullptr);
  CHECK(arena->allocate(~std::size_t{0}) == nullptr);
  CHECK(arena->allocate(~std::size_t{0} - 14) == nullptr);
  CHECK(arena->mapped() == kChunk);
}

TEST_CASE("at the cap it refuses, for ever and without harm") {
  const auto arena = std::make_unique<Arena>();
  arena->set_limit(2 * kChunk);
  const Piece first = take(*arena, kChunk, 1);
  const Piece second = take(*arena, kChunk - 4096, 2);
  REQUIRE(first.begin != nullptr);
  REQUIRE(second.begin != nullptr);
  // More vain tries than would carry a 32-bit offset into its neighbour.
  for (int i = 0; i < 40'000; ++i) REQUIRE(arena->allocate(kChunk) == nullptr);
  CHECK(arena->mapped() == 2 * kChunk);

  // What is left of the last chunk is still good for small ones.
  const Piece rest = take(*arena, 4096, 3);
  REQUIRE(rest.begin != nullptr);
  CHECK(arena->allocate(1) == nullptr);
  CHECK(is_intact(first));
  CHECK(is_intact(second));

  // And a raised limit is good at once.
  arena->set_limit(3 * kChunk);
  CHECK(arena->allocate(1) != nullptr);
}

TEST_CASE("a limit below what is taken refuses, it does not wrap") {
  const auto arena = std::make_unique<Arena>();
  REQUIRE(arena->allocate_pages(3 * 4096) != nullptr);
  arena->set_limit(4096);
  CHECK(arena->allocate_pages(4096) == nullptr);
  CHECK(arena->mapped() == 3 * 4096);
}

TEST_CASE("pages that are given back can be taken again") {
  const auto arena = std::make_unique<Arena>();
  arena->set_limit(64 * 4096);
  for (int i = 0; i < 200; ++i) {
    void* pages = arena->allocate_pages(63 * 4096 + 1);
    REQUIRE(pages != nullptr);
    REQUIRE(is_zero(pages, 64 * 4096));
    std::memset(pages, 1, 64 * 4096);
    arena->give_back_pages(pages, 63 * 4096 + 1);
  }
  CHECK(arena->mapped() == 0);
}

TEST_CASE("a vain try for a large table refuses nobody's small one") {
  const auto arena = std::make_unique<Arena>();
  constexpr int kTables = 2000;
  arena->set_limit(std::size_t{kTables} * 4096);
  std::atomic<bool> done{false};
  std::atomic<int> refused{0};
  test::run_threads(2, [&](int thread) {
    if (thread == 0) {
      while (!done) (void)arena->allocate_pages(std::size_t{kTables} * 4096 + 1);
      return;
    }
    for (int i = 0; i < kTables; ++i) refused += arena->allocate_pages(4096) == nullptr ? 1 : 0;
    done = true;
  });
  CHECK(refused == 0);
  CHECK(arena->mapped() == arena->limit());
}

TEST_CASE("threads that use up an arena never share a byte") {
  constexpr int kThreads = 4;
  for (int round = 0; round < 20; ++round) {
    const auto arena = std::make_unique<Arena>();
    arena->set_limit(8 * kChunk);
    std::array<std::vector<Piece>, kThreads> pieces;
    test::run_threads(kThreads, [&](int thread) {
      const auto mark = static_cast<unsigned char>(thread + 1);
      std::size_t bytes = 1;
      for (int refused = 0; refused < 10;) {
        bytes = (bytes * 75 + static_cast<std::size_t>(thread)) % 6011;
        const Piece piece = take(*arena, bytes, mark);
        if (piece.begin == nullptr) {
          ++refused;
        } else {
          pieces[static_cast<std::size_t>(thread)].push_back(piece);
        }
      }
    });
    std::size_t total = 0;
    for (const std::vector<Piece>& list : pieces) {
      for (const Piece& piece : list) {
        total += piece.bytes;
        REQUIRE(is_intact(piece));
      }
    }
    CHECK(arena->mapped() == 8 * kChunk);
    CHECK(total <= 8 * kChunk);
    CHECK(total > 7 * kChunk);  // less than one chunk is lost to ends that nothing fitted
  }
}

constinit Arena stormy_arena;
std::vector<Piece>* in_handler = nullptr;

TEST_CASE("a signal handler may allocate in the middle of an allocation") {
  stormy_arena.set_limit(64 * kChunk);
  std::vector<Piece> ours;
  std::vector<Piece> theirs;
  ours.reserve(1'000'000);
  theirs.reserve(1'000'000);
  in_handler = &theirs;
  {
    test::SignalStorm storm([] {
      const Piece piece = take(stormy_arena, 48, 2);
      if (piece.begin != nullptr && in_handler->size() < in_handler->capacity()) in_handler->push_back(piece);
    });
    while (!storm.is_over()) {
      for (int i = 0; i < 200; ++i) {
        const Piece piece = take(stormy_arena, 16 + ours.size() % 200, 1);
        if (piece.begin != nullptr && ours.size() < ours.capacity()) ours.push_back(piece);
      }
    }
  }
  CHECK(ours.size() > 200);
  CHECK(theirs.size() > 10);
  for (const Piece& piece : ours) REQUIRE(is_intact(piece));
  for (const Piece& piece : theirs) REQUIRE(is_intact(piece));
}

TEST_CASE("under mlockall a table costs the pages that are touched") {
  constexpr std::size_t kPages = 1024;
  const auto arena = std::make_unique<Arena>();
  // In a child of its own: mlockall() is for good.
  const pid_t child = fork();
  if (child == 0) {
    if (mlockall(MCL_FUTURE) != 0) _exit(2);
    auto* table = static_cast<unsigned char*>(arena->allocate_pages(kPages * 4096));
    if (table == nullptr) _exit(3);
    table[5 * 4096] = 1;
    static unsigned char resident[kPages];
    if (mincore(table, kPages * 4096, resident) != 0) _exit(4);
    std::size_t count = 0;
    for (const unsigned char page : resident) count += page & 1;
    _exit(count == 1 ? 0 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 2 || WEXITSTATUS(status) == 3) {
    WARN("not tried: this user may not lock 4 MiB");
  } else {
    CHECK(WEXITSTATUS(status) == 0);
  }
}

TEST_CASE("a lazy array is mapped once, whoever comes first") {
  arena.set_limit(arena.mapped() + (std::size_t{64} << 20));
  for (int round = 0; round < 200; ++round) {
    std::atomic<std::uint64_t*> array{nullptr};
    std::array<std::uint64_t*, 3> seen{};
    const std::size_t before = arena.mapped();
    test::run_threads(3,
                      [&](int thread) { seen[static_cast<std::size_t>(thread)] = lazy_array(array, 512); });
    REQUIRE(seen[0] != nullptr);
    REQUIRE(seen[0] == seen[1]);
    REQUIRE(seen[0] == seen[2]);
    REQUIRE(arena.mapped() == before + 4096);
    REQUIRE(is_zero(seen[0], 4096));
  }
}

TEST_CASE("a lazy array at the cap is null, and there once the limit is raised") {
  std::atomic<std::uint64_t*> array{nullptr};
  arena.set_limit(arena.mapped());
  CHECK(lazy_array(array, 512) == nullptr);
  CHECK(array.load() == nullptr);
  arena.set_limit(arena.mapped() + 4096);
  CHECK(lazy_array(array, 512) != nullptr);
}

}  // namespace
}  // namespace profagent::safe
