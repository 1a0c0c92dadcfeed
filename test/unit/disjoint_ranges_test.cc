// Tables of ranges as libbacktrace searches them.
#include "agent/helper/disjoint_ranges.h"

#include <algorithm>
#include <random>
#include <vector>

#include <catch2/catch.hpp>

using namespace profagent::helper;

namespace {

const char owners[8] = {};
using Table = std::vector<OwnedRange>;

OwnedRange range(std::uint64_t begin, std::uint64_t end, int owner) {
  return {begin, end, &owners[owner]};
}

void sort(Table& table) {
  std::ranges::sort(table, [](const OwnedRange& a, const OwnedRange& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end > b.end;
  });
}

Table disjoint(Table table) {
  sort(table);
  make_disjoint(table);
  return table;
}

// As libbacktrace does it: the last that begins at or before the address, or one of those that begin with it.
const void* found(const Table& table, std::uint64_t address) {
  auto after = std::ranges::upper_bound(table, address, {}, &OwnedRange::begin);
  while (after != table.begin()) {
    const OwnedRange& last = *--after;
    if (address < last.end) return last.owner;
    if (after == table.begin() || std::prev(after)->begin < last.begin) break;
  }
  return nullptr;
}

// The last that holds it.
const void* expected(const Table& table, std::uint64_t address) {
  const void* owner = nullptr;
  for (const OwnedRange& each : table)
    if (each.begin <= address && address < each.end) owner = each.owner;
  return owner;
}

}  // namespace

TEST_CASE("what is behind a range inside of another one is found") {
  // A unit that goes on behind a template which a second one has, too; the third makes room.
  const Table table = disjoint({range(10, 100, 1), range(20, 30, 2), range(200, 210, 3), range(200, 210, 3)});
  CHECK(table == Table{range(10, 20, 1), range(20, 30, 2), range(30, 100, 1), range(200, 210, 3)});
}

TEST_CASE("an empty range hides nothing") {
  CHECK(disjoint({range(10, 100, 1), range(50, 50, 2)}) == Table{range(10, 100, 1), range(10, 100, 1)});
  CHECK(disjoint({range(5, 5, 2), range(10, 100, 1)}) == Table{range(10, 100, 1), range(10, 100, 1)});
  CHECK(disjoint({range(10, 10, 2), range(9, 3, 2)}) == Table{range(9, 3, 2), range(10, 10, 2)});
  CHECK(disjoint({}).empty());
}

TEST_CASE("a table of ranges that do not overlap stays as it is") {
  const Table table = {range(10, 20, 1), range(20, 30, 1), range(40, 50, 2)};
  CHECK(disjoint(table) == table);
}

TEST_CASE("without room for more ranges the inner one stays, and empty ones go") {
  const Table table = disjoint({range(10, 100, 1), range(20, 30, 2)});
  CHECK(table == Table{range(10, 100, 1), range(20, 30, 2)});
  const Table more = disjoint({range(10, 100, 1), range(20, 30, 2), range(40, 45, 3), range(50, 50, 4)});
  CHECK(found(more, 60) == nullptr);
  CHECK(found(more, 42) == &owners[3]);
  CHECK(found(more, 25) == &owners[2]);
}

TEST_CASE("any table with room for it is searched rightly") {
  std::mt19937 random(1);
  for (int run = 0; run < 2000; ++run) {
    Table table;
    for (unsigned i = random() % 12; i != 0; --i) {
      const std::uint64_t begin = random() % 40;
      table.push_back(range(begin, begin + random() % 12, static_cast<int>(random() % 8)));
    }
    // As discarded templates are written.
    const std::size_t real = table.size();
    for (std::size_t i = 0; i < real; ++i) table.push_back(range(60, 68, 0));
    sort(table);
    Table changed = table;
    make_disjoint(changed);
    REQUIRE(std::ranges::is_sorted(changed, {}, &OwnedRange::begin));
    for (std::uint64_t address = 0; address < 70; ++address) {
      CAPTURE(run, address);
      REQUIRE(found(changed, address) == expected(table, address));
    }
  }
}
