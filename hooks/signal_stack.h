// Alternate signal stacks: on one without room for a signal of ours its thread must get none (decision 021).
#pragma once

#include <csignal>

namespace profagent::hooks {

// sigaltstack(), for whichever way the program takes to it.
int set_signal_stack(const stack_t* stack, stack_t* old);

}  // namespace profagent::hooks
