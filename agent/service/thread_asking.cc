#include "agent/service/thread_asking.h"

#include <algorithm>
#include <ctime>
#include <vector>

#include "agent/safe/sys.h"
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
constexpr long kBetweenLooks = 200'000;  // ns

constexpr std::string_view kNoMemory = "[running: no memory]";

void pause_a_moment() {
  const timespec moment{0, kBetweenLooks};
  safe::sys::call(SYS_nanosleep, reinterpret_cast<long>(&moment), 0);
}

}  // namespace

std::string_view ThreadAsking::obstacle_of(const Question& question, int signal) const {
  if (signal == 0) return "[running: no signal is free]";
  if (question.small_signal_stack) return "[running: alternate signal stack too small]";
  // Without /proc all signals count as blocked.
  safe::ThreadStatus status;
  if (!safe::read_thread_status(question.tid, status) ||
      ((status.blocked_signals >> (signal - 1)) & 1) != 0) {
    return "[running: signal blocked]";
  }
  // A filter that the program has installed may end it for what the handler calls.
  if (filters_at_load_ >= 0 && status.filters > filters_at_load_) return "[running: system call filter]";
  return {};
}

ThreadAsking::Begun ThreadAsking::begin(const Question& question, int signal) const {
  if (const std::string_view obstacle = obstacle_of(question, signal); !obstacle.empty())
    return {{}, obstacle};
  const safe::ThreadAsks::Ask ask = thread_asks.ask(question.tid, signal);
  return {ask, ask.place == nullptr ? "[running: could not be asked]" : std::string_view()};
}

ThreadAsking::Begun ThreadAsking::begin(const Question& question) const {
  if (!thread_asks.prepare()) return {{}, kNoMemory};
  return begin(question, signal_());
}

// Returns how many were dealt with.
std::size_t ThreadAsking::ask_some(std::span<const Question> questions, int signal, const Answered& answered,
                                   const Unanswered& unanswered) const {
  struct Asked {
    const Question* question;
    safe::ThreadAsks::Ask ask;
  };
  std::vector<Asked> asked;
  std::size_t dealt_with = 0;
  for (const Question& question : questions) {
    if (asked.size() == safe::ThreadAsks::kPlaces) break;
    ++dealt_with;
    const Begun begun = begin(question, signal);
    if (begun.obstacle.empty()) {
      asked.push_back({&question, begun.ask});
    } else {
      unanswered(question, begun.obstacle);
    }
  }
  const std::int64_t end = monotonic_nanos() + kPatience;
  const auto is_missing = [](const Asked& one) { return safe::ThreadAsks::answer(one.ask) == nullptr; };
  while (std::any_of(asked.begin(), asked.end(), is_missing) && monotonic_nanos() < end) pause_a_moment();
  for (const Asked& one : asked) {
    const safe::AskPlace* place = safe::ThreadAsks::answer(one.ask);
    if (place != nullptr && place->stack.depth > 0) {
      answered(*one.question, std::span(place->pcs).first(place->stack.depth));
    } else {
      unanswered(*one.question, kNoAnswer);
    }
    safe::ThreadAsks::give_up(one.ask);
  }
  return dealt_with;
}

void ThreadAsking::ask(std::span<const Question> questions, const Answered& answered,
                       const Unanswered& unanswered) const {
  if (questions.empty()) return;
  if (!thread_asks.prepare()) {
    for (const Question& question : questions) unanswered(question, kNoMemory);
    return;
  }
  const int signal = signal_();
  const std::int64_t end = monotonic_nanos() + kWholePatience;
  while (!questions.empty() && monotonic_nanos() < end) {
    questions = questions.subspan(ask_some(questions, signal, answered, unanswered));
  }
  for (const Question& question : questions) unanswered(question, kNoAnswer);
}

}  // namespace profagent::service
