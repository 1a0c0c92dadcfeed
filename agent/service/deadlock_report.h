// What /debug/pprof/deadlock tells, before it is text. Pure data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <sys/types.h>

#include "agent/service/lock_waits.h"

namespace profagent::service {

struct DeadlockReport {
  struct Frame {
    std::uintptr_t pc = 0;
    std::string function;
    std::uintptr_t offset = 0;  // of pc in it
    std::string file;
  };
  struct Thread {
    LockWait wait;
    std::string name;
    std::string holder_name;
    std::vector<Frame> stack;  // leaf first; empty: it has moved meanwhile
  };
  struct Cycle {
    std::vector<Thread> threads;  // each waits for the next one, the last for the first
    std::size_t behind = 0;       // others that wait for them
  };
  struct Abandoned {
    std::vector<Thread> threads;  // that wait for one lock; their holder has ended
  };
  struct Chain {
    pid_t head = 0;  // waits for nobody that is known
    std::string name;
    std::size_t behind = 0;
    std::vector<Thread> threads;  // the first waits for the head, each other one for the one before it
    bool is_cut = false;
  };
  std::vector<Cycle> cycles;
  std::vector<Abandoned> abandoned;
  std::vector<Chain> chains;  // those that hold up the most
  std::string obstacle;       // why there may be more than is shown; empty: nothing
};

[[nodiscard]] std::string deadlock_text(const DeadlockReport& report);

}  // namespace profagent::service
