#include "agent/safe/heap_filter.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>

#include "test/unit/storm.h"

namespace profagent::safe {
namespace {

constexpr std::uintptr_t kPage = 4096;

const void* at(std::uintptr_t address) {
  return reinterpret_cast<const void*>(address);
}

TEST_CASE("a fresh filter contains nothing") {
  static constinit HeapFilter filter;
  CHECK_FALSE(filter.may_contain(nullptr));
  for (std::uintptr_t page = 0; page < (1U << 20); page += 97)
    REQUIRE_FALSE(filter.may_contain(at(page * kPage)));
}

TEST_CASE("it answers for the page of the block and no other") {
  static constinit HeapFilter filter;
  const std::uintptr_t page = 0x7f0000345000;
  REQUIRE(filter.add(at(page + 0x120)));
  CHECK(filter.may_contain(at(page)));
  CHECK(filter.may_contain(at(page + kPage - 1)));
  CHECK_FALSE(filter.may_contain(at(page - 1)));
  CHECK_FALSE(filter.may_contain(at(page + kPage)));
  // Four GiB further the table begins anew: "may" contain.
  CHECK(filter.may_contain(at(page + (std::uintptr_t{1} << 32))));
  filter.remove(at(page + 0x120));
  CHECK_FALSE(filter.may_contain(at(page)));
}

TEST_CASE("a page is empty when its last block has gone, not before") {
  static constinit HeapFilter filter;
  for (std::uintptr_t i = 0; i < 254; ++i) REQUIRE(filter.add(at(i * 16)));
  for (std::uintptr_t i = 0; i < 254; ++i) {
    REQUIRE(filter.may_contain(at(i * 16)));
    filter.remove(at(i * 16));
  }
  CHECK_FALSE(filter.may_contain(at(0)));
}

TEST_CASE("a crowded page sticks: it never says no to a block that is there") {
  static constinit HeapFilter filter;
  for (std::uintptr_t i = 0; i < 300; ++i) REQUIRE(filter.add(at(i * 8)));
  for (std::uintptr_t i = 0; i < 299; ++i) filter.remove(at(i * 8));
  CHECK(filter.may_contain(at(299 * 8)));
  CHECK_FALSE(filter.may_contain(at(kPage)));
}

TEST_CASE("removing from an empty page does not wrap") {
  static constinit HeapFilter filter;
  filter.remove(at(kPage));
  CHECK_FALSE(filter.may_contain(at(kPage)));
  REQUIRE(filter.add(at(kPage)));
  filter.remove(at(kPage));
  CHECK_FALSE(filter.may_contain(at(kPage)));
}

TEST_CASE("counts stay exact while threads share a page") {
  static constinit HeapFilter filter;
  constexpr int kThreads = 4;
  constexpr int kRounds = 1'500'000;
  std::atomic<int> given_up{0};
  std::atomic<int> missed{0};
  test::run_threads(kThreads, [&](int thread) {
    const void* mine = at(static_cast<std::uintptr_t>(thread) * 64);
    for (int i = 0; i < kRounds; ++i) {
      if (!filter.add(mine)) {
        ++given_up;
        continue;
      }
      if (!filter.may_contain(mine)) ++missed;
      filter.remove(mine);
    }
  });
  CHECK(missed == 0);
  // remove() may give up in theory and add() too; both are bounded tries. Neither happens here.
  CHECK(given_up == 0);
  CHECK_FALSE(filter.may_contain(at(0)));
}

constinit HeapFilter stormy_filter;
std::atomic<int> missed_in_handler{0};

TEST_CASE("a signal handler may change the very byte that its thread is changing") {
  test::SignalStorm storm([] {
    const void* mine = at(0x500);
    if (!stormy_filter.add(mine)) return;
    if (!stormy_filter.may_contain(mine)) ++missed_in_handler;
    stormy_filter.remove(mine);
  });
  int missed = 0;
  while (!storm.is_over()) {
    for (int i = 0; i < 1000; ++i) {
      if (!stormy_filter.add(at(0x400)) || !stormy_filter.may_contain(at(0x400))) ++missed;
      stormy_filter.remove(at(0x400));
    }
  }
  storm.end();
  CHECK(missed == 0);
  CHECK(missed_in_handler == 0);
  CHECK_FALSE(stormy_filter.may_contain(at(0x400)));
}

}  // namespace
}  // namespace profagent::safe
