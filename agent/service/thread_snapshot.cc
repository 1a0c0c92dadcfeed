#include "agent/service/thread_snapshot.h"

#include <algorithm>

#include "agent/safe/sys.h"
#include "agent/service/text_parts.h"
#include "agent/service/thread_list.h"

namespace profagent::service {

namespace {

// At most so long at a time: what others notice of it.
constexpr std::int64_t kSlice = 5'000'000;  // ns

}  // namespace

ThreadWatch::Taking::Taking(ThreadWatch& watch) : watch_(watch) {
  static_cast<void>(snapshot_.stacks.add({}));  // 0: not known
  looker_.find_slots();
  tids_ = list_threads();
  std::erase(tids_, safe::sys::gettid());
  snapshot_.threads.reserve(tids_.size());
}

bool ThreadWatch::Taking::go_on() {
  const std::int64_t end = monotonic_nanos() + kSlice;
  while (done_ < tids_.size() && monotonic_nanos() < end) look_at(tids_[done_++]);
  return done_ < tids_.size();
}

void ThreadWatch::Taking::look_at(pid_t tid) {
  ThreadRow row;
  row.tid = tid;
  const Look look = looker_.look_at(row, snapshot_.stacks);
  if (look == Look::kGone) return;
  row.name = read_thread_name(tid);
  if (look == Look::kDone) remember(row, monotonic_nanos());
  if (look == Look::kRunning) running_.push_back(snapshot_.threads.size());
  snapshot_.threads.push_back(row);
}

void ThreadWatch::Taking::remember(ThreadRow& row, std::int64_t now) {
  const std::uint64_t runs = read_runs(row.tid);
  if (runs == 0) return;
  const auto known = watch_.seen_.find(row.tid);
  const bool is_same = known != watch_.seen_.end() && known->second.runs == runs;
  row.blocked_since = is_same ? known->second.first : now;
  seen_[row.tid] = {runs, row.blocked_since};
}

void ThreadWatch::Taking::ask_running() {
  std::vector<Question> questions;
  questions.reserve(running_.size());
  for (const std::size_t row : running_) {
    const pid_t tid = snapshot_.threads[row].tid;
    questions.push_back({tid, looker_.has_small_signal_stack(tid), row});
  }
  watch_.asking_.ask(
      questions,
      [&](const Question& question, std::span<const safe::Pc> pcs) {
        ThreadRow& row = snapshot_.threads[question.row];
        row.state = kRunningState;
        row.stack = snapshot_.stacks.add(pcs);
      },
      [&](const Question& question, std::string_view why) {
        ThreadRow& row = snapshot_.threads[question.row];
        const bool is_known = row.state != kUnknownState;
        // It may have begun to wait, or have ended.
        const Look again = looker_.look_at(row, snapshot_.stacks);
        if (again == Look::kDone) return;
        row.state = is_known ? kRunningState : kUnknownState;
        row.obstacle = is_known ? why : "[unknown]";
        if (again == Look::kGone) row.tid = 0;
      });
}

ThreadSnapshot ThreadWatch::Taking::finish() {
  ask_running();
  std::erase_if(snapshot_.threads, [](const ThreadRow& row) { return row.tid == 0; });
  watch_.seen_ = std::move(seen_);
  return std::move(snapshot_);
}

ThreadSnapshot ThreadWatch::take() {
  Taking taking(*this);
  while (taking.go_on()) {
  }
  return taking.finish();
}

}  // namespace profagent::service
