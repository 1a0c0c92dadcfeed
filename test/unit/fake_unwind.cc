#include "test/unit/fake_unwind.h"

#include <algorithm>

namespace profagent::test {

thread_local FakeStack fake_stack;

}  // namespace profagent::test

namespace profagent::safe {

std::uint64_t hash_stack(std::span<const Pc> pcs) noexcept {
  std::uint64_t hash = 1;
  for (const Pc pc : pcs) hash = (hash ^ pc) * 0x9e3779b97f4a7c15ULL;
  return hash ^ hash >> 29;
}

Stack capture_stack(const StartFrame&, std::span<Pc> pcs) noexcept {
  test::FakeStack& fake = test::fake_stack;
  fake.room = pcs.size();
  Stack stack;
  stack.depth = static_cast<std::uint32_t>(std::min<std::size_t>(fake.depth, pcs.size()));
  stack.truncated = fake.depth > pcs.size();
  stack.incomplete = fake.incomplete;
  std::copy_n(fake.pcs.begin(), stack.depth, pcs.begin());
  stack.hash = hash_stack(pcs.first(stack.depth));
  stack.id_hint = fake.hint;
  return stack;
}

void remember_stack_id(const Stack&, StackId id) noexcept {
  test::fake_stack.remembered = id;
}

}  // namespace profagent::safe
