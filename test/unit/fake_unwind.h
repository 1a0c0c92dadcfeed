// Stands in for the unwinder at link time, so that a test decides which stack a sample has.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

#include "agent/safe/types.h"
#include "agent/safe/unwind.h"

namespace profagent::test {

struct FakeStack {
  std::array<safe::Pc, 600> pcs{};
  std::uint32_t depth = 0;
  bool incomplete = false;
  safe::StackId hint = safe::kNoStack;
  // What the recorder asked for and told.
  std::size_t room = 0;
  safe::StackId remembered = safe::kNoStack;
};

// The calling thread's next samples have this stack.
extern thread_local FakeStack fake_stack;

inline void set_stack(std::initializer_list<safe::Pc> pcs) {
  fake_stack = {};
  for (const safe::Pc pc : pcs) fake_stack.pcs[fake_stack.depth++] = pc;
}

}  // namespace profagent::test
