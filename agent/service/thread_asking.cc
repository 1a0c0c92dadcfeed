#include "agent/service/thread_asking.h"

#include "agent/safe/clock.h"
#include "agent/safe/thread_asks.h"
#include "agent/safe/thread_status.h"
#include "agent/service/text_parts.h"

namespace profagent::service {

namespace {

using safe::thread_asks;

constexpr std::int64_t kMillisecond = 1'000'000;
// For the answers of the threads that were asked together.
constexpr std::int64_t kPatience = 20 * kMillisecond;
// For all of them, however many run.
constexpr std::int64_t kWholePatience = 400 * kMillisecond;
constexpr double kBetweenLooks = 0.0005;  // s

constexpr std::string_view kNoMemory = "[running: no memory]";

}  // namespace

std::string_view ThreadAsking::obstacle_of(pid_t tid, int signal) const {
  if (signal == 0) return "[running: no signal is free]";
  // Without /proc all signals count as blocked.
  safe::ThreadStatus status;
  if (!safe::read_thread_status(tid, status) || ((status.blocked_signals >> (signal - 1)) & 1) != 0) {
    return "[running: signal blocked]";
  }
  // A filter that the program has installed may end it for what the handler calls.
  if (may_be_filtered(status, filters_at_load_)) return "[running: system call filter]";
  return {};
}

ThreadAsking::Begun ThreadAsking::begin(pid_t tid) {
  if (!thread_asks.prepare()) return {{}, kNoMemory};
  const int signal = signal_();
  if (const std::string_view obstacle = obstacle_of(tid, signal); !obstacle.empty()) return {{}, obstacle};
  // Right before, so that the marks of others hardly ever change in between.
  const std::uint32_t marks = marked_.refresh();
  if (marked_.has_small_signal_stack(tid)) return {{}, "[running: alternate signal stack too small]"};
  const safe::ThreadAsks::Ask ask = thread_asks.ask(tid, signal, marks);
  return {ask, ask.place == nullptr ? "[running: could not be asked]" : std::string_view()};
}

ThreadQuestions::~ThreadQuestions() {
  for (const Asked& one : asked_) safe::ThreadAsks::give_up(one.ask);
}

double ThreadQuestions::go_on() {
  const std::int64_t now = safe::monotonic_now();
  if (end_ == 0) end_ = now + kWholePatience;
  collect_answers(now >= patience_end_);
  for (; asked_.empty() && next_ < questions_.size() && now >= end_; ++next_)
    unanswered_(questions_[next_], kNoAnswer);
  if (asked_.empty() && next_ < questions_.size()) ask_some();
  return asked_.empty() && next_ == questions_.size() ? 0 : kBetweenLooks;
}

void ThreadQuestions::ask_some() {
  for (; next_ < questions_.size() && asked_.size() < safe::ThreadAsks::kPlaces; ++next_) {
    const Question& question = questions_[next_];
    const ThreadAsking::Begun begun = asking_.begin(question.tid);
    if (begun.obstacle.empty()) {
      asked_.push_back({&question, begun.ask});
    } else {
      unanswered_(question, begun.obstacle);
    }
  }
  patience_end_ = safe::monotonic_now() + kPatience;
}

void ThreadQuestions::collect_answers(bool is_late) {
  std::erase_if(asked_, [&](const Asked& one) {
    const safe::AskPlace* place = safe::ThreadAsks::answer(one.ask);
    if (place == nullptr && !is_late) return false;
    if (place != nullptr && place->stack.depth > 0) {
      answered_(*one.question, std::span(place->pcs).first(place->stack.depth));
    } else {
      unanswered_(*one.question, kNoAnswer);
    }
    safe::ThreadAsks::give_up(one.ask);
    return true;
  });
}

}  // namespace profagent::service
