#include "agent/service/own_memory.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace profagent::service {

namespace {

constexpr std::size_t kMiB = 1 << 20;

// Pages of [block, block + bytes) that are in memory.
std::size_t resident_pages(void* block, std::size_t bytes) {
  const auto begin = reinterpret_cast<std::uintptr_t>(block) & ~std::uintptr_t{4095};
  const std::size_t pages = (reinterpret_cast<std::uintptr_t>(block) + bytes - begin + 4095) / 4096;
  std::vector<unsigned char> resident(pages);
  if (mincore(reinterpret_cast<void*>(begin), pages * 4096, resident.data()) != 0) return SIZE_MAX;
  std::size_t count = 0;
  for (const unsigned char page : resident) count += page & 1;
  return count;
}

struct Block {
  std::size_t size;
  unsigned char fill;
};

bool is_filled(const void* block, const Block& as) {
  const auto* bytes = static_cast<const unsigned char*>(block);
  for (std::size_t i = 0; i < as.size; ++i) {
    if (bytes[i] != as.fill) return false;
  }
  return true;
}

// The exit status of `body` in a child.
template <typename Body>
int in_child(Body body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

}  // namespace

TEST_CASE("blocks of any size keep what was written and never overlap") {
  std::mt19937_64 random(20261124);
  const std::size_t before = own_memory::stats().in_use;
  std::map<void*, Block> blocks;
  std::size_t errors = 0;
  for (int step = 0; step < 60000; ++step) {
    const auto pick = random() % 100;
    if (blocks.empty() || pick < 50) {
      // Mostly small, sometimes around the limits of a class, of a span, and far above.
      static constexpr std::size_t kLimits[] = {48, 300, 8192, 32736, 65536, 300000};
      const std::size_t size = random() % (kLimits[random() % 6] + 2);
      void* block = own_memory::allocate(size);
      REQUIRE(block != nullptr);
      errors += reinterpret_cast<std::uintptr_t>(block) % 16 != 0 || own_memory::usable_size(block) < size ||
                !own_memory::owns(block);
      const Block as{size, static_cast<unsigned char>(random())};
      std::memset(block, as.fill, size);
      // The neighbours tell an overlap at once, the fill pattern at the end.
      const auto [at, is_new] = blocks.emplace(block, as);
      errors += !is_new;
      if (at != blocks.begin()) {
        const auto previous = std::prev(at);
        errors += static_cast<char*>(previous->first) + previous->second.size > block;
      }
      if (const auto next = std::next(at); next != blocks.end())
        errors += static_cast<char*>(block) + size > next->first;
    } else {
      auto at = blocks.lower_bound(reinterpret_cast<void*>(
          reinterpret_cast<std::uintptr_t>(blocks.begin()->first) + random() % (4 * kMiB)));
      if (at == blocks.end()) at = blocks.begin();
      errors += !is_filled(at->first, at->second);
      if (pick < 90) {
        own_memory::release(at->first);
        blocks.erase(at);
      } else {
        Block as = at->second;
        const std::size_t size = random() % 100000;
        void* moved = own_memory::resize(at->first, size);
        REQUIRE(moved != nullptr);
        as.size = std::min(as.size, size);
        errors += !is_filled(moved, as);
        as.size = size;
        std::memset(moved, as.fill, size);
        blocks.erase(at);
        blocks.emplace(moved, as);
      }
    }
  }
  CHECK(errors == 0);
  CHECK(own_memory::stats().in_use > before);
  for (const auto& [block, as] : blocks) {
    errors += !is_filled(block, as);
    own_memory::release(block);
  }
  CHECK(errors == 0);
  CHECK(own_memory::stats().in_use == before);
}

TEST_CASE("any alignment up to half a span is kept") {
  for (std::size_t alignment = 1; alignment <= 32768; alignment *= 2) {
    CAPTURE(alignment);
    void* first = own_memory::allocate(1, alignment);
    void* second = own_memory::allocate(100001, alignment);
    CHECK(reinterpret_cast<std::uintptr_t>(first) % alignment == 0);
    CHECK(reinterpret_cast<std::uintptr_t>(second) % alignment == 0);
    own_memory::release(first);
    own_memory::release(second);
  }
  CHECK(own_memory::allocate(1, 65536) == nullptr);
}

TEST_CASE("what is empty goes back to the kernel") {
  own_memory::trim();
  const std::size_t held = own_memory::stats().held;
  const std::size_t size = 20 * kMiB;
  void* large = own_memory::allocate(size);
  REQUIRE(large != nullptr);
  std::memset(large, 1, size);
  CHECK(resident_pages(large, size) == size / 4096);
  CHECK(own_memory::stats().held >= held + size);
  own_memory::release(large);
  CHECK(resident_pages(large, size) == 0);
  CHECK(own_memory::stats().held == held);

  std::vector<void*> small(20000);
  for (void*& block : small) std::memset(block = own_memory::allocate(1000), 1, 1000);
  CHECK(own_memory::stats().held >= held + 20000 * 1000);
  for (void* block : small) own_memory::release(block);
  CHECK(own_memory::stats().held <= held + 4 * 65536);
  own_memory::trim();
  CHECK(own_memory::stats().held == held);
}

TEST_CASE("a gap that is too small for one block is kept for the next") {
  void* gap = own_memory::allocate(65536);
  void* behind = own_memory::allocate(65536);
  own_memory::release(gap);
  void* large = own_memory::allocate(3 * kMiB);
  void* fitting = own_memory::allocate(65536);
  CHECK(fitting == gap);
  for (void* block : {behind, large, fitting}) own_memory::release(block);
}

TEST_CASE("fresh memory is not touched before it is used") {
  own_memory::trim();
  void* block = own_memory::allocate(8 * kMiB);
  REQUIRE(block != nullptr);
  CHECK(resident_pages(block, 8 * kMiB) == 0);
  own_memory::release(block);
}

TEST_CASE("when there is no room the answer is nullptr, and afterwards there is room again") {
  CHECK(own_memory::allocate(SIZE_MAX) == nullptr);
  CHECK(own_memory::allocate(SIZE_MAX - 65535) == nullptr);
  CHECK(own_memory::allocate(257 * kMiB) == nullptr);
  const std::size_t failures = own_memory::stats().failures;
  std::vector<void*> blocks;
  while (void* block = own_memory::allocate(kMiB)) blocks.push_back(block);
  CHECK(blocks.size() > 200);
  CHECK(blocks.size() <= 256);
  CHECK(own_memory::stats().failures == failures + 1);
  REQUIRE_FALSE(blocks.empty());
  std::memset(blocks[0], 7, kMiB);
  CHECK(own_memory::resize(blocks[0], 2 * kMiB) == nullptr);
  CHECK(is_filled(blocks[0], {kMiB, 7}));
  for (void* block : blocks) own_memory::release(block);
  void* block = own_memory::allocate(200 * kMiB);
  CHECK(block != nullptr);
  own_memory::release(block);
}

TEST_CASE("others' blocks are told apart") {
  int on_stack = 0;
  const std::string on_heap(1000, 'x');
  void* ours = own_memory::allocate(1);
  CHECK(own_memory::owns(ours));
  CHECK_FALSE(own_memory::owns(&on_stack));
  CHECK_FALSE(own_memory::owns(on_heap.data()));
  CHECK_FALSE(own_memory::owns(nullptr));
  own_memory::release(ours);
  own_memory::release(nullptr);
}

TEST_CASE("two threads at once") {
  const auto work = [](unsigned seed, bool* good) {
    std::mt19937 random(seed);
    std::vector<std::pair<void*, Block>> blocks;
    for (int step = 0; step < 50000; ++step) {
      if (blocks.size() < 100) {
        const Block as{random() % 2000, static_cast<unsigned char>(seed)};
        blocks.emplace_back(own_memory::allocate(as.size), as);
        std::memset(blocks.back().first, as.fill, as.size);
      } else {
        std::swap(blocks[random() % blocks.size()], blocks.back());
        *good = *good && is_filled(blocks.back().first, blocks.back().second);
        own_memory::release(blocks.back().first);
        blocks.pop_back();
      }
    }
    for (const auto& [block, as] : blocks) own_memory::release(block);
  };
  const std::size_t before = own_memory::stats().in_use;
  bool good[2] = {true, true};
  std::thread one(work, 1, &good[0]);
  std::thread two(work, 2, &good[1]);
  one.join();
  two.join();
  CHECK(good[0]);
  CHECK(good[1]);
  CHECK(own_memory::stats().in_use == before);
}

TEST_CASE("forks at any moment leave a child that can allocate") {
  void* before = own_memory::allocate(100);
  std::memset(before, 5, 100);
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop) own_memory::release(own_memory::allocate(64));
  });
  int failed = 0;
  for (int i = 0; i < 300; ++i) {
    failed += in_child([&] {
                alarm(5);
                own_memory::reset_after_fork();
                if (!is_filled(before, {100, 5})) return 1;
                own_memory::release(before);
                std::vector<void*> blocks;
                for (std::size_t size = 1; size < 200000; size = size * 3 / 2 + 1) {
                  blocks.push_back(own_memory::allocate(size));
                  if (blocks.back() == nullptr) return 2;
                  std::memset(blocks.back(), 1, size);
                }
                for (void* block : blocks) own_memory::release(block);
                return 0;
              }) != 0;
  }
  stop = true;
  busy.join();
  CHECK(failed == 0);
  own_memory::release(before);
}

// A sanitizer's own mappings are far beyond any limit.
#ifndef __SANITIZE_ADDRESS__
TEST_CASE("a child of own_memory's limit test", "[.][own-memory-limited]") {
  // Run by the next test, with little address space left.
  void* block = own_memory::allocate(100);
  REQUIRE(block != nullptr);
  CHECK(own_memory::stats().reserved == 64 * kMiB);
  own_memory::release(block);
}

TEST_CASE("a limit on address space leaves a smaller range") {
  // A new program: in this one the range is there already.
  CHECK(in_child([] {
          // Room for the program and 64 MiB, but not for 256.
          const rlimit limit{200 * kMiB, 200 * kMiB};
          if (setrlimit(RLIMIT_AS, &limit) != 0) return 98;
          execl("/proc/self/exe", "unit", "[own-memory-limited]", static_cast<char*>(nullptr));
          return 99;
        }) == 0);
}
#endif

}  // namespace profagent::service
