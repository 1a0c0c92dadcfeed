// Asks running threads for their stacks (agent/safe/thread_asks.h), each once, and never waits for an answer:
// whoever asks has to come again. On our thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/types.h>

#include "agent/safe/thread_asks.h"
#include "agent/safe/types.h"
#include "agent/service/marked_threads.h"

namespace profagent::service {

// Of a running thread, in place of its stack.
inline constexpr std::string_view kNoAnswer = "[running: no answer]";

struct Question {
  pid_t tid = 0;
  std::size_t row = 0;  // the asker's
};

class ThreadAsking {
 public:
  // `signal`: which one, asked anew each time; 0 when the program uses all that would do. `filters_at_load`:
  // system call filters that the process was born with; negative when not known.
  ThreadAsking(std::function<int()> signal, std::int64_t filters_at_load)
      : signal_(std::move(signal)), filters_at_load_(filters_at_load) {}

  // One question: to be looked after, and given up, by the asker.
  struct Begun {
    safe::ThreadAsks::Ask ask;
    std::string_view obstacle;  // not empty: nobody was asked
  };
  [[nodiscard]] Begun begin(pid_t tid);

 private:
  [[nodiscard]] std::string_view obstacle_of(pid_t tid, int signal) const;

  std::function<int()> signal_;
  std::int64_t filters_at_load_;
  MarkedThreads marked_;
};

// Many questions, as many at a time as there are places. A thread has 20 ms from when it was asked; all of
// them together have 400 ms, however many run. Destroying it gives up what is not answered.
class ThreadQuestions {
 public:
  using Answered = std::function<void(const Question&, std::span<const safe::Pc>)>;
  // Why there is no answer, as the name of a frame.
  using Unanswered = std::function<void(const Question&, std::string_view)>;

  // `asking` must outlive it.
  ThreadQuestions(ThreadAsking& asking, std::vector<Question> questions, Answered answered,
                  Unanswered unanswered)
      : asking_(asking),
        questions_(std::move(questions)),
        answered_(std::move(answered)),
        unanswered_(std::move(unanswered)) {}
  ~ThreadQuestions();
  ThreadQuestions(const ThreadQuestions&) = delete;
  ThreadQuestions& operator=(const ThreadQuestions&) = delete;

  // Asks, or looks for answers. Seconds until it wants to be called again; 0: all have been dealt with.
  double go_on();

 private:
  struct Asked {
    const Question* question;
    safe::ThreadAsks::Ask ask;
  };
  void ask_some();
  void collect_answers(bool is_late);

  ThreadAsking& asking_;
  std::vector<Question> questions_;
  Answered answered_;
  Unanswered unanswered_;
  std::size_t next_ = 0;  // to be asked
  std::vector<Asked> asked_;
  // CLOCK_MONOTONIC, ns.
  std::int64_t patience_end_ = 0;  // of those that are asked
  std::int64_t end_ = 0;           // of the whole; 0: nobody was asked yet
};

}  // namespace profagent::service
