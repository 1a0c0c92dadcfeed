// Who waits for whom: circles, and who is behind whom. Pure data, any thread.
//
// A thread waits for at most one other. So the threads behind one form a tree, and all that leads into a
// circle never gets on.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include <sys/types.h>

namespace profagent::service {

struct WaitEdge {
  pid_t waiter = 0;
  pid_t holder = 0;
};

struct WaitGraph {
  struct Cycle {
    std::vector<std::size_t> edges;  // each one's holder is the next one's waiter, the last one's the first's
    std::size_t behind = 0;  // threads that are not in it and wait for it, one behind the other or not
  };
  struct Chain {
    pid_t head = 0;                    // waits for nobody itself
    std::size_t behind = 0;            // threads that wait for it
    std::vector<std::size_t> longest;  // edges, from the one that waits for the head to the outermost
  };
  // Those that hold up the most come first, then those with the smallest tid.
  std::vector<Cycle> cycles;
  std::vector<Chain> chains;
};

// Positions in the result are those in `edges`. Of several edges of one waiter the first counts.
[[nodiscard]] WaitGraph make_wait_graph(std::span<const WaitEdge> edges);

}  // namespace profagent::service
