// Asks running threads for their stacks (agent/safe/thread_asks.h): as many at a time as there are places,
// each once, and waits a moment for the answers. On our thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <utility>

#include <sys/types.h>

#include "agent/safe/thread_asks.h"
#include "agent/safe/types.h"

namespace profagent::service {

// Of a running thread, in place of its stack.
inline constexpr std::string_view kNoAnswer = "[running: no answer]";

struct Question {
  pid_t tid = 0;
  bool small_signal_stack = false;
  std::size_t row = 0;  // the asker's
};

class ThreadAsking {
 public:
  // `signal`: which one, asked anew each time; 0 when the program uses all that would do. `filters_at_load`:
  // system call filters that the process was born with; negative when not known.
  ThreadAsking(std::function<int()> signal, std::int64_t filters_at_load)
      : signal_(std::move(signal)), filters_at_load_(filters_at_load) {}

  using Answered = std::function<void(const Question&, std::span<const safe::Pc>)>;
  // Why there is no answer, as the name of a frame.
  using Unanswered = std::function<void(const Question&, std::string_view)>;

  void ask(std::span<const Question> questions, const Answered& answered, const Unanswered& unanswered) const;

  // One question, not waited for: to be looked after, and given up, by the asker.
  struct Begun {
    safe::ThreadAsks::Ask ask;
    std::string_view obstacle;  // not empty: nobody was asked
  };
  [[nodiscard]] Begun begin(const Question& question) const;

 private:
  [[nodiscard]] std::string_view obstacle_of(const Question& question, int signal) const;
  [[nodiscard]] Begun begin(const Question& question, int signal) const;
  [[nodiscard]] std::size_t ask_some(std::span<const Question> questions, int signal,
                                     const Answered& answered, const Unanswered& unanswered) const;

  std::function<int()> signal_;
  std::int64_t filters_at_load_;
};

}  // namespace profagent::service
