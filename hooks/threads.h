// What the hook of pthread_create keeps between a thread's creator and the thread.
#pragma once

namespace profagent::hooks {

// In the child of fork(), where no thread is being born.
void forget_births_after_fork() noexcept;

}  // namespace profagent::hooks
