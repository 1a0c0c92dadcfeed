// What a wall profile keeps of what it has seen, and where that ends.
#include <catch2/catch.hpp>

#include "agent/service/wall_table.h"

using profagent::safe::ThreadName;
using profagent::service::WallPlace;
using profagent::service::WallTable;

namespace {

const ThreadName kWorker{{1, 0}};

std::int64_t nanos_of(const WallTable& table, std::string_view obstacle) {
  std::int64_t sum = 0;
  for (const auto& [key, row] : table.rows()) sum += key.obstacle == obstacle ? row.nanos : 0;
  return sum;
}

}  // namespace

TEST_CASE("one row for one place of one thread") {
  WallTable table;
  const WallPlace place{"io", {}, {0x1000, 0x2000}};
  table.add(place, kWorker, 0, {1, 10});
  table.add(place, kWorker, 0, {2, 5});
  REQUIRE(table.rows().size() == 1);
  CHECK(table.rows().begin()->second.looks == 3);
  CHECK(table.rows().begin()->second.nanos == 15);
  table.add({"mutex", {}, place.pcs}, kWorker, 0, {1, 1});
  table.add({"io", "[unknown]", {}}, kWorker, 0, {1, 1});
  table.add(place, {{2, 0}}, 0, {1, 1});
  table.add(place, kWorker, 7, {1, 1});
  CHECK(table.rows().size() == 5);
  CHECK(table.stacks().size() == 2);
}

TEST_CASE("frames are bounded, known stacks go on, and no time is lost") {
  WallTable table;
  WallPlace place{"running", {}, std::vector<profagent::safe::Pc>(128, 0x1000)};
  const std::size_t fitting = WallTable::kMostFrames / place.pcs.size();
  for (std::size_t i = 0; i < fitting + 10; ++i) {
    place.pcs[0] = 0x1000 + i;
    table.add(place, kWorker, 0, {1, 1});
  }
  CHECK(table.stacks().frame_count() == WallTable::kMostFrames);
  CHECK(nanos_of(table, "[stack table full]") == 10);
  place.pcs[0] = 0x1000;
  table.add(place, kWorker, 0, {1, 100});
  CHECK(nanos_of(table, "[stack table full]") == 10);
  CHECK(nanos_of(table, "") == static_cast<std::int64_t>(fitting) + 100);
}

TEST_CASE("rows are bounded, and no time is lost") {
  WallTable table;
  const WallPlace place{"sleep", {}, {0x1000}};
  const auto most = static_cast<pid_t>(WallTable::kMostRows);
  for (pid_t tid = 1; tid <= most + 10; ++tid) table.add(place, kWorker, tid, {1, 1});
  CHECK(table.rows().size() == WallTable::kMostRows + 1);
  CHECK(nanos_of(table, "[stack table full]") == 10);
}
