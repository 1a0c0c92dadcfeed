// /debug/pprof/deadlock: threads that wait for each other in a circle, locks whose holder has ended, and who
// holds up the most others. On our thread only.
//
// Two looks with a pause between: what is shown has lasted from one to the other. A circle is shown only when
// there was a moment at which all of its waits held (held_together()), so it is never a false one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/service/lock_waits.h"
#include "agent/service/symbols.h"

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
    pid_t head = 0;
    std::string name;
    std::size_t behind = 0;
    std::vector<Thread> threads;  // the first waits for the head, each other one for the one before it
    bool is_cut = false;
  };
  std::vector<Cycle> cycles;
  std::vector<Abandoned> abandoned;
  std::vector<Chain> chains;  // at most kMostChains
  std::string obstacle;       // why there may be more than is shown; empty: nothing
};

class DeadlockSearch {
 public:
  // Between the two looks.
  static constexpr double kPause = 0.1;
  static constexpr std::size_t kMostChains = 10;
  static constexpr std::size_t kMostThreads = 20;  // of a chain, or of those that wait for an abandoned lock

  // The first look. `symbolizer` must outlive the search.
  explicit DeadlockSearch(Symbolizer& symbolizer);

  // The second one.
  [[nodiscard]] DeadlockReport finish();

 private:
  Symbolizer& symbolizer_;
  LockWaits first_;
};

[[nodiscard]] std::string deadlock_text(const DeadlockReport& report);

}  // namespace profagent::service
