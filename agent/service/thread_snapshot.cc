#include "agent/service/thread_snapshot.h"

#include <algorithm>

#include "agent/safe/clock.h"
#include "agent/safe/sys.h"
#include "agent/service/text_parts.h"
#include "agent/service/thread_list.h"

namespace profagent::service {

namespace {

// At most so long at a time: what others notice of it.
constexpr std::int64_t kSlice = 5'000'000;  // ns
constexpr double kAtOnce = 1e-6;            // s
// Until another snapshot may have its answers.
constexpr double kTurn = 0.001;  // s

}  // namespace

ThreadWatch::Taking::Taking(ThreadWatch& watch) : watch_(watch) {
  static_cast<void>(snapshot_.stacks.add({}));  // 0: not known
  looker_.find_slots();
  tids_ = list_threads();
  std::erase(tids_, safe::sys::gettid());
  snapshot_.threads.reserve(tids_.size());
}

ThreadWatch::Taking::~Taking() {
  if (watch_.asker_ == this) watch_.asker_ = nullptr;
}

double ThreadWatch::Taking::go_on() {
  if (done_ == tids_.size()) return ask_running();
  const std::int64_t end = safe::monotonic_now() + kSlice;
  while (done_ < tids_.size() && safe::monotonic_now() < end) look_at(tids_[done_++]);
  return kAtOnce;
}

void ThreadWatch::Taking::look_at(pid_t tid) {
  ThreadRow row;
  row.tid = tid;
  const Look look = looker_.look_at(row, snapshot_.stacks);
  if (look == Look::kGone) return;
  row.name = read_thread_name(tid);
  if (look == Look::kDone) remember(row, safe::monotonic_now());
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

std::vector<Question> ThreadWatch::Taking::questions() const {
  std::vector<Question> questions;
  questions.reserve(running_.size());
  for (const std::size_t row : running_) questions.push_back({snapshot_.threads[row].tid, row});
  return questions;
}

double ThreadWatch::Taking::ask_running() {
  if (!questions_) {
    if (running_.empty()) return 0;
    if (watch_.asker_ != nullptr) return kTurn;
    watch_.asker_ = this;
    questions_.emplace(
        watch_.asking_, questions(),
        [this](const Question& question, std::span<const safe::Pc> pcs) { note_answer(question, pcs); },
        [this](const Question& question, std::string_view why) { note_no_answer(question, why); });
  }
  const double pause = questions_->go_on();
  if (pause == 0 && watch_.asker_ == this) watch_.asker_ = nullptr;
  return pause;
}

void ThreadWatch::Taking::note_answer(const Question& question, std::span<const safe::Pc> pcs) {
  ThreadRow& row = snapshot_.threads[question.row];
  row.state = kRunningState;
  row.stack = snapshot_.stacks.add(pcs);
}

void ThreadWatch::Taking::note_no_answer(const Question& question, std::string_view why) {
  ThreadRow& row = snapshot_.threads[question.row];
  const bool is_known = row.state != kUnknownState;
  // It may have begun to wait, or have ended.
  const Look again = looker_.look_at(row, snapshot_.stacks);
  if (again == Look::kDone) return;
  row.state = is_known ? kRunningState : kUnknownState;
  row.obstacle = is_known ? why : "[unknown]";
  if (again == Look::kGone) row.tid = 0;
}

ThreadSnapshot ThreadWatch::Taking::finish() {
  std::erase_if(snapshot_.threads, [](const ThreadRow& row) { return row.tid == 0; });
  watch_.seen_ = std::move(seen_);
  return std::move(snapshot_);
}

}  // namespace profagent::service
