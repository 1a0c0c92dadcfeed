#include "agent/service/deadlock.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "agent/safe/outside_walk.h"
#include "agent/safe/record_stack.h"
#include "agent/service/stack_pool.h"
#include "agent/service/stacks.h"
#include "agent/service/thread_list.h"
#include "agent/service/wait_graph.h"

namespace profagent::service {

namespace {

using Thread = DeadlockReport::Thread;

// Threads in a circle run only for signal handlers. Between two of these there is room for a look.
constexpr int kMostTries = 20;

std::string name_of(pid_t tid) {
  return read_thread_name(tid).text();
}

// The waits that are in both, with everything that is known of them.
std::vector<LockWait> lasting(const std::vector<LockWait>& before, const std::vector<LockWait>& now) {
  std::vector<LockWait> both;
  auto at = before.begin();
  for (const LockWait& wait : now) {
    while (at != before.end() && at->waiter < wait.waiter) ++at;
    if (at != before.end() && *at == wait) both.push_back(wait);
  }
  return both;
}

// Makes the report, whose stacks become readable when all of them are known.
class Reporter {
 public:
  explicit Reporter(std::vector<LockWait> waits) : waits_(std::move(waits)) {
    std::vector<WaitEdge> edges;
    edges.reserve(waits_.size());
    for (const LockWait& wait : waits_) edges.push_back({wait.waiter, wait.holder});
    graph_ = make_wait_graph(edges);
    // After the locks were read: whom it does not list had not just been born.
    threads_ = list_threads();
    std::sort(threads_.begin(), threads_.end());
  }

  DeadlockReport make(SymbolSources& symbols) {
    for (const WaitGraph::Cycle& cycle : graph_.cycles) add_cycle(cycle);
    add_abandoned();
    for (const WaitGraph::Chain& chain : graph_.chains) add_chain(chain);
    make_readable(symbols);
    return std::move(report_);
  }

 private:
  [[nodiscard]] bool is_gone(pid_t tid) const {
    return !std::binary_search(threads_.begin(), threads_.end(), tid) || has_ended(tid);
  }

  // `waits` with the stacks of all, when they can be shown to have held at one moment.
  bool take(const std::vector<LockWait>& waits, std::vector<Thread>& threads) {
    std::vector<std::uint32_t> stacks;
    const auto walk = [&] {
      stacks.clear();
      for (const LockWait& wait : waits) stacks.push_back(walk_of(wait));
    };
    for (int attempt = 0; attempt < kMostTries; ++attempt) {
      if (!held_together(waits, walk)) continue;
      for (std::size_t i = 0; i < waits.size(); ++i) add_thread(threads, waits[i], stacks[i]);
      return true;
    }
    return false;
  }

  std::uint32_t walk_of(const LockWait& wait) {
    std::array<safe::Pc, safe::kMaxStackDepth> pcs{};
    const std::span<safe::Pc> room = std::span(pcs).first(safe::recorded_depth());
    const safe::StartFrame site{.pc = wait.site_pc, .sp = wait.site_sp, .bp = wait.site_bp};
    const safe::OutsideStack stack = safe::walk_outside({wait.futex.pc, wait.futex.sp, site}, room);
    return pool_.add(room.first(stack.depth));
  }

  void add_thread(std::vector<Thread>& threads, const LockWait& wait, std::uint32_t stack) {
    threads.push_back({wait, name_of(wait.waiter), name_of(wait.holder), {}});
    stacks_.push_back(stack);
  }

  void add_cycle(const WaitGraph::Cycle& cycle) {
    std::vector<LockWait> waits;
    for (const std::size_t edge : cycle.edges) waits.push_back(waits_[edge]);
    DeadlockReport::Cycle found{.threads = {}, .behind = cycle.behind};
    if (take(waits, found.threads)) report_.cycles.push_back(std::move(found));
  }

  void add_abandoned() {
    std::map<std::uintptr_t, std::vector<LockWait>> by_lock;
    for (const LockWait& wait : waits_) {
      if (wait.kind != safe::WaitKind::kJoin && !wait.is_shared && is_gone(wait.holder))
        by_lock[wait.object].push_back(wait);
    }
    for (auto& [lock, waits] : by_lock) {
      if (waits.size() > DeadlockSearch::kMostThreads) waits.resize(DeadlockSearch::kMostThreads);
      DeadlockReport::Abandoned found;
      // Each by itself: one that goes on has nothing to do with the others.
      for (const LockWait& wait : waits) take({wait}, found.threads);
      if (!found.threads.empty()) report_.abandoned.push_back(std::move(found));
    }
  }

  void add_chain(const WaitGraph::Chain& chain) {
    if (report_.chains.size() == DeadlockSearch::kMostChains || is_gone(chain.head)) return;
    DeadlockReport::Chain found{
        .head = chain.head, .name = name_of(chain.head), .behind = chain.behind, .threads = {}};
    for (const std::size_t edge : chain.longest) {
      found.is_cut = found.threads.size() == DeadlockSearch::kMostThreads;
      if (found.is_cut) break;
      // What has moved on meanwhile is shown without a stack.
      if (!take({waits_[edge]}, found.threads)) add_thread(found.threads, waits_[edge], pool_.add({}));
    }
    report_.chains.push_back(std::move(found));
  }

  void make_readable(SymbolSources& symbols) {
    const ReadableStacks readable(symbols, names_only(), pool_);
    std::vector<std::uint32_t> positions;
    auto stack = stacks_.begin();
    const auto fill = [&](std::vector<Thread>& threads) {
      for (Thread& thread : threads) {
        readable.positions(pool_[*stack++], positions);
        for (const std::uint32_t position : positions) {
          const ReadableStacks::Frame& frame = readable.frames()[position];
          const std::uintptr_t start = frame.resolved.start;
          thread.stack.push_back(
              {.pc = frame.pc,
               .function = frame.resolved.symbol->name,
               .offset = start == 0 || start > frame.pc ? 0 : frame.pc - start,
               .file = frame.resolved.module == nullptr ? std::string() : frame.resolved.module->path});
        }
      }
    };
    // In the order in which they were added.
    for (auto& cycle : report_.cycles) fill(cycle.threads);
    for (auto& abandoned : report_.abandoned) fill(abandoned.threads);
    for (auto& chain : report_.chains) fill(chain.threads);
  }

  std::vector<LockWait> waits_;
  WaitGraph graph_;
  std::vector<pid_t> threads_;
  StackPool pool_;
  std::vector<std::uint32_t> stacks_;  // of the threads in the report
  DeadlockReport report_;
};

}  // namespace

DeadlockSearch::DeadlockSearch(SymbolSources& symbols) : symbols_(symbols) {
  safe::threads.reclaim();
  first_ = read_lock_waits();
}

DeadlockReport DeadlockSearch::finish() {
  const LockWaits second = read_lock_waits();
  DeadlockReport report = Reporter(lasting(first_.waits, second.waits)).make(symbols_);
  if (first_.is_refused || second.is_refused) {
    report.obstacle = "the kernel does not show where threads are blocked (the process has changed its user)";
  }
  return report;
}

}  // namespace profagent::service
