#include "agent/service/wait_graph.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>
#include <set>
#include <vector>

namespace profagent::service {
namespace {

using Tids = std::vector<pid_t>;

Tids waiters(const std::vector<WaitEdge>& edges, const std::vector<std::size_t>& positions) {
  Tids tids;
  for (const std::size_t position : positions) tids.push_back(edges[position].waiter);
  return tids;
}

TEST_CASE("nobody waits: nothing") {
  const WaitGraph graph = make_wait_graph({});
  CHECK(graph.cycles.empty());
  CHECK(graph.chains.empty());
}

TEST_CASE("two wait for each other") {
  const std::vector<WaitEdge> edges = {{12, 11}, {11, 12}};
  const WaitGraph graph = make_wait_graph(edges);
  REQUIRE(graph.cycles.size() == 1);
  CHECK(waiters(edges, graph.cycles[0].edges) == Tids{11, 12});
  CHECK(graph.cycles[0].behind == 0);
  CHECK(graph.chains.empty());
}

TEST_CASE("one waits for itself") {
  const std::vector<WaitEdge> edges = {{7, 7}};
  const WaitGraph graph = make_wait_graph(edges);
  REQUIRE(graph.cycles.size() == 1);
  CHECK(waiters(edges, graph.cycles[0].edges) == Tids{7});
  CHECK(graph.chains.empty());
}

TEST_CASE("those behind a circle are counted, not in it, and no chain") {
  // 1 -> 2 -> 3 -> 1, with 4 and 5 -> 4 behind 2, 6 behind 3.
  const std::vector<WaitEdge> edges = {{5, 4}, {4, 2}, {1, 2}, {6, 3}, {3, 1}, {2, 3}};
  const WaitGraph graph = make_wait_graph(edges);
  REQUIRE(graph.cycles.size() == 1);
  CHECK(waiters(edges, graph.cycles[0].edges) == Tids{1, 2, 3});
  CHECK(graph.cycles[0].behind == 3);
  CHECK(graph.chains.empty());
}

TEST_CASE("two circles, the larger one first") {
  const std::vector<WaitEdge> edges = {{1, 2}, {2, 1}, {11, 12}, {12, 13}, {13, 11}, {9, 9}};
  const WaitGraph graph = make_wait_graph(edges);
  REQUIRE(graph.cycles.size() == 3);
  CHECK(waiters(edges, graph.cycles[0].edges) == Tids{11, 12, 13});
  CHECK(waiters(edges, graph.cycles[1].edges) == Tids{1, 2});
  CHECK(waiters(edges, graph.cycles[2].edges) == Tids{9});
}

TEST_CASE("a chain has a head, all behind it, and the longest way") {
  // 1 <- 2 <- 3 <- 4, and 5, 6 behind 1, 7 behind 2; another head with one.
  const std::vector<WaitEdge> edges = {{4, 3}, {2, 1}, {5, 1}, {7, 2}, {3, 2}, {6, 1}, {21, 20}};
  const WaitGraph graph = make_wait_graph(edges);
  CHECK(graph.cycles.empty());
  REQUIRE(graph.chains.size() == 2);
  CHECK(graph.chains[0].head == 1);
  CHECK(graph.chains[0].behind == 6);
  CHECK(waiters(edges, graph.chains[0].longest) == Tids{2, 3, 4});
  CHECK(graph.chains[1].head == 20);
  CHECK(graph.chains[1].behind == 1);
}

TEST_CASE("chains that hold up equally many come by tid") {
  const std::vector<WaitEdge> edges = {{1, 30}, {2, 20}, {3, 10}};
  const WaitGraph graph = make_wait_graph(edges);
  REQUIRE(graph.chains.size() == 3);
  CHECK(graph.chains[0].head == 10);
  CHECK(graph.chains[1].head == 20);
  CHECK(graph.chains[2].head == 30);
}

TEST_CASE("of two edges of one waiter the first counts") {
  const std::vector<WaitEdge> edges = {{1, 2}, {1, 1}, {2, 3}};
  const WaitGraph graph = make_wait_graph(edges);
  CHECK(graph.cycles.empty());
  REQUIRE(graph.chains.size() == 1);
  CHECK(graph.chains[0].behind == 2);
}

TEST_CASE("as long as there are threads: no recursion") {
  constexpr pid_t kThreads = 100000;
  std::vector<WaitEdge> edges;
  for (pid_t i = 1; i < kThreads; ++i) edges.push_back({i, i + 1});
  const WaitGraph open = make_wait_graph(edges);
  REQUIRE(open.chains.size() == 1);
  CHECK(open.chains[0].head == kThreads);
  CHECK(open.chains[0].longest.size() == kThreads - 1);
  edges.push_back({kThreads, 1});
  const WaitGraph closed = make_wait_graph(edges);
  CHECK(closed.chains.empty());
  REQUIRE(closed.cycles.size() == 1);
  CHECK(closed.cycles[0].edges.size() == kThreads);
}

// A thread is in a circle exactly when it meets itself again.
TEST_CASE("in any graph every circle is found, and nothing else") {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    const pid_t threads = 1 + static_cast<pid_t>(random() % 12);
    std::vector<WaitEdge> edges;
    std::vector<pid_t> next(static_cast<std::size_t>(threads) + 1, 0);
    for (pid_t tid = 1; tid <= threads; ++tid) {
      if (random() % 4 == 0) continue;
      next[static_cast<std::size_t>(tid)] = 1 + static_cast<pid_t>(random() % static_cast<unsigned>(threads));
      edges.push_back({tid, next[static_cast<std::size_t>(tid)]});
    }
    std::shuffle(edges.begin(), edges.end(), random);
    std::set<pid_t> expected;
    for (pid_t tid = 1; tid <= threads; ++tid) {
      pid_t at = next[static_cast<std::size_t>(tid)];
      for (int step = 0; step < threads && at != 0 && at != tid; ++step)
        at = next[static_cast<std::size_t>(at)];
      if (at == tid) expected.insert(tid);
    }
    const WaitGraph graph = make_wait_graph(edges);
    std::multiset<pid_t> found;
    std::size_t all = 0;
    for (const WaitGraph::Cycle& cycle : graph.cycles) {
      for (std::size_t i = 0; i < cycle.edges.size(); ++i) {
        found.insert(edges[cycle.edges[i]].waiter);
        REQUIRE(edges[cycle.edges[i]].holder == edges[cycle.edges[(i + 1) % cycle.edges.size()]].waiter);
      }
      all += cycle.edges.size() + cycle.behind;
    }
    for (const WaitGraph::Chain& chain : graph.chains) all += chain.behind;
    REQUIRE(std::equal(found.begin(), found.end(), expected.begin(), expected.end()));
    REQUIRE(all == edges.size());
  }
}

}  // namespace
}  // namespace profagent::service
