#include "agent/safe/record_stack.h"

#include "agent/safe/counters.h"
#include "agent/safe/stack_table.h"

namespace profagent::safe {

namespace {

Stack capture_counted(const StartFrame& start, std::span<Pc> room) noexcept {
  const Stack stack = capture_stack(start, room);
  if (stack.truncated) count(counters.stacks_truncated);
  if (stack.incomplete) count(counters.stacks_incomplete);
  if (stack.depth == 0) count(counters.stacks_empty);
  return stack;
}

}  // namespace

StackId record_stack(const StartFrame& start, std::span<Pc> room) noexcept {
  const Stack stack = capture_counted(start, room);
  if (stack.id_hint != kNoStack) return stack.id_hint;
  const StackId id = stack_table.intern(room.first(stack.depth), stack.hash);
  // An overflow is not remembered: it must be counted each time.
  if (id > kOverflowStack) remember_stack_id(stack, id);
  return id;
}

StackId record_stack_under(Pc leaf, const StartFrame& start, std::span<Pc> room) noexcept {
  room.front() = leaf;
  const Stack stack = capture_counted(start, room.subspan(1));
  const std::span<const Pc> pcs = room.first(stack.depth + 1);
  return stack_table.intern(pcs, hash_stack(pcs));
}

}  // namespace profagent::safe
