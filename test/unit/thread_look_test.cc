// What a look from outside says of a thread that runs.
#include "agent/service/thread_look.h"

#include <catch2/catch.hpp>

#include "test/unit/runner.h"

namespace profagent::service {
namespace {

// As after a walk of a thread that has gone on meanwhile, and after an earlier look at it.
TEST_CASE("of a thread that runs nothing is kept that was found when it waited") {
  const Runner runner;
  ThreadLooker looker;
  looker.find_slots();
  StackPool stacks;
  static_cast<void>(stacks.add({}));
  const safe::Pc pcs[] = {0x1000, 0x2000};
  ThreadRow row;
  row.tid = runner.tid();
  row.state = "mutex";
  row.kind = safe::WaitKind::kMutex;
  row.system_call = 202;
  row.stack = stacks.add(pcs);
  row.object = &row;
  row.waiting_frame = 1;
  row.holder = 77;
  REQUIRE(looker.look_at(row, stacks) == ThreadLooker::Look::kRunning);
  CHECK(row.state.empty());
  CHECK(row.kind == safe::WaitKind::kNone);
  CHECK(row.system_call == -1);
  CHECK(stacks[row.stack].empty());
  CHECK(row.object == nullptr);
  CHECK(row.waiting_frame == 0);
  CHECK(row.holder == 0);
}

}  // namespace
}  // namespace profagent::service
