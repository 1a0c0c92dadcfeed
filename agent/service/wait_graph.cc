#include "agent/service/wait_graph.h"

#include <algorithm>
#include <unordered_map>

namespace profagent::service {

namespace {

constexpr std::size_t kNone = ~std::size_t{0};

class Builder {
 public:
  explicit Builder(std::span<const WaitEdge> edges) : edges_(edges), state_(edges.size(), State::kNew) {
    for (std::size_t i = 0; i < edges.size(); ++i) {
      if (!by_waiter_.emplace(edges[i].waiter, i).second) {
        state_[i] = State::kDone;
        continue;
      }
      by_holder_[edges[i].holder].push_back(i);
    }
  }

  WaitGraph build() {
    WaitGraph graph;
    find_cycles(graph);
    for (WaitGraph::Cycle& cycle : graph.cycles) {
      for (const std::size_t edge : cycle.edges) cycle.behind += walk_behind(edges_[edge].waiter).count;
    }
    for (const auto& [holder, behind] : by_holder_) {
      if (by_waiter_.contains(holder)) continue;
      const Behind all = walk_behind(holder);
      graph.chains.push_back({holder, all.count, path_to(all.deepest)});
    }
    sort(graph);
    return graph;
  }

 private:
  enum class State : unsigned char { kNew, kOnPath, kDone, kInCycle };

  [[nodiscard]] std::size_t next(std::size_t edge) const {
    const auto found = by_waiter_.find(edges_[edge].holder);
    return found == by_waiter_.end() ? kNone : found->second;
  }

  void find_cycles(WaitGraph& graph) {
    std::vector<std::size_t> path;
    for (std::size_t start = 0; start < edges_.size(); ++start) {
      path.clear();
      std::size_t edge = start;
      for (; edge != kNone && state_[edge] == State::kNew; edge = next(edge)) {
        state_[edge] = State::kOnPath;
        path.push_back(edge);
      }
      const bool is_closed = edge != kNone && state_[edge] == State::kOnPath;
      for (const std::size_t passed : path) state_[passed] = State::kDone;
      if (!is_closed) continue;
      WaitGraph::Cycle cycle;
      cycle.edges.assign(std::find(path.begin(), path.end(), edge), path.end());
      // It begins with its smallest tid, wherever the search came in.
      const auto smaller = [&](std::size_t a, std::size_t b) { return edges_[a].waiter < edges_[b].waiter; };
      std::rotate(cycle.edges.begin(), std::min_element(cycle.edges.begin(), cycle.edges.end(), smaller),
                  cycle.edges.end());
      for (const std::size_t member : cycle.edges) state_[member] = State::kInCycle;
      graph.cycles.push_back(std::move(cycle));
    }
  }

  struct Behind {
    std::size_t count = 0;
    std::size_t deepest = kNone;  // edge
  };

  // Level by level: a chain may be as long as there are threads. What is in a circle is not behind it.
  Behind walk_behind(pid_t holder) {
    Behind all;
    std::vector<pid_t> level = {holder};
    std::vector<pid_t> next_level;
    while (!level.empty()) {
      next_level.clear();
      std::size_t smallest = kNone;
      for (const pid_t thread : level) {
        const auto waiting = by_holder_.find(thread);
        if (waiting == by_holder_.end()) continue;
        for (const std::size_t edge : waiting->second) {
          if (state_[edge] == State::kInCycle) continue;
          ++all.count;
          next_level.push_back(edges_[edge].waiter);
          if (smallest == kNone || edges_[edge].waiter < edges_[smallest].waiter) smallest = edge;
        }
      }
      if (smallest != kNone) all.deepest = smallest;
      level.swap(next_level);
    }
    return all;
  }

  [[nodiscard]] std::vector<std::size_t> path_to(std::size_t deepest) const {
    std::vector<std::size_t> path;
    for (std::size_t edge = deepest; edge != kNone; edge = next(edge)) path.push_back(edge);
    std::reverse(path.begin(), path.end());
    return path;
  }

  void sort(WaitGraph& graph) const {
    std::sort(graph.cycles.begin(), graph.cycles.end(), [&](const auto& a, const auto& b) {
      const std::size_t of_a = a.edges.size() + a.behind;
      const std::size_t of_b = b.edges.size() + b.behind;
      return of_a != of_b ? of_a > of_b : edges_[a.edges[0]].waiter < edges_[b.edges[0]].waiter;
    });
    std::sort(graph.chains.begin(), graph.chains.end(), [](const auto& a, const auto& b) {
      return a.behind != b.behind ? a.behind > b.behind : a.head < b.head;
    });
  }

  std::span<const WaitEdge> edges_;
  std::vector<State> state_;
  std::unordered_map<pid_t, std::size_t> by_waiter_;
  std::unordered_map<pid_t, std::vector<std::size_t>> by_holder_;
};

}  // namespace

WaitGraph make_wait_graph(std::span<const WaitEdge> edges) {
  return Builder(edges).build();
}

}  // namespace profagent::service
