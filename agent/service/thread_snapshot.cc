#include "agent/service/thread_snapshot.h"

#include <algorithm>

#include "agent/safe/sys.h"
#include "agent/service/text_parts.h"
#include "agent/service/thread_list.h"

namespace profagent::service {

void ThreadWatch::remember(ThreadRow& row, std::int64_t now) {
  const std::uint64_t runs = read_runs(row.tid);
  if (runs == 0) return;
  const auto known = seen_before_.find(row.tid);
  const bool is_same = known != seen_before_.end() && known->second.runs == runs;
  row.blocked_since = is_same ? known->second.first : now;
  seen_[row.tid] = {runs, row.blocked_since};
}

void ThreadWatch::ask_running(const std::vector<std::size_t>& running) {
  std::vector<Question> questions;
  questions.reserve(running.size());
  for (const std::size_t row : running) {
    const pid_t tid = snapshot_.threads[row].tid;
    questions.push_back({tid, looker_.has_small_signal_stack(tid), row});
  }
  asking_.ask(
      questions,
      [&](const Question& question, std::span<const safe::Pc> pcs) {
        ThreadRow& row = snapshot_.threads[question.row];
        row.state = kRunningState;
        row.kind = safe::WaitKind::kNone;
        row.object = nullptr;
        row.stack = snapshot_.stacks.add(pcs);
      },
      [&](const Question& question, std::string_view why) {
        ThreadRow& row = snapshot_.threads[question.row];
        const bool is_known = row.state != kUnknownState;
        // It may have begun to wait, or have ended.
        const Look again = looker_.look_at(row, snapshot_.stacks);
        if (again == Look::kDone) return;
        row.stack = snapshot_.stacks.add({});
        row.kind = safe::WaitKind::kNone;
        row.object = nullptr;
        row.state = is_known ? kRunningState : kUnknownState;
        row.obstacle = is_known ? why : "[unknown]";
        if (again == Look::kGone) row.tid = 0;
      });
}

ThreadSnapshot ThreadWatch::take() {
  snapshot_ = {};
  static_cast<void>(snapshot_.stacks.add({}));  // 0: not known
  looker_.find_slots();
  const pid_t own = safe::sys::gettid();
  seen_before_.swap(seen_);
  seen_.clear();

  const std::vector<pid_t> tids = list_threads();
  snapshot_.threads.reserve(tids.size());
  std::vector<std::size_t> running;
  for (const pid_t tid : tids) {
    if (tid == own) continue;
    ThreadRow row;
    row.tid = tid;
    const Look look = looker_.look_at(row, snapshot_.stacks);
    if (look == Look::kGone) continue;
    row.name = read_thread_name(tid);
    if (look == Look::kDone) remember(row, monotonic_nanos());
    if (look == Look::kRunning) running.push_back(snapshot_.threads.size());
    snapshot_.threads.push_back(row);
  }
  ask_running(running);
  std::erase_if(snapshot_.threads, [](const ThreadRow& row) { return row.tid == 0; });
  seen_before_.clear();
  return std::move(snapshot_);
}

}  // namespace profagent::service
