#include "agent/safe/record_stack.h"

#include "agent/safe/counters.h"
#include "agent/safe/stack_table.h"

namespace profagent::safe {

StackId record_stack(const StartFrame& start, std::span<Pc> room) noexcept {
  const Stack stack = capture_stack(start, room);
  if (stack.truncated) count(counters.stacks_truncated);
  if (stack.incomplete) count(counters.stacks_incomplete);
  if (stack.depth == 0) count(counters.stacks_empty);
  if (stack.id_hint != kNoStack) return stack.id_hint;
  const StackId id = stack_table.intern(room.first(stack.depth), stack.hash);
  // An overflow is not remembered: it must be counted each time.
  if (id > kOverflowStack) remember_stack_id(stack, id);
  return id;
}

}  // namespace profagent::safe
