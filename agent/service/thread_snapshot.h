// Where every thread of the process stands, without waking one that waits. On our thread only.
//
// A blocked thread is walked from outside (thread_look.h). A running one is asked (thread_asking.h), and when
// it does not answer has a frame that says why. Our own thread is left out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <sys/types.h>

#include "agent/service/stack_pool.h"
#include "agent/service/thread_asking.h"
#include "agent/service/thread_look.h"

namespace profagent::service {

struct ThreadSnapshot {
  std::vector<ThreadRow> threads;
  StackPool stacks;
};

class ThreadWatch {
 public:
  ThreadWatch(std::function<int()> asking_signal, std::int64_t filters_at_load)
      : asking_(std::move(asking_signal), filters_at_load) {}

  class Taking;

 private:
  // A thread that has not run since it was seen first has waited all that time.
  struct Seen {
    std::uint64_t runs = 0;
    std::int64_t first = 0;
  };

  ThreadAsking asking_;
  const Taking* asker_ = nullptr;         // one after the other: there are few places
  std::unordered_map<pid_t, Seen> seen_;  // by the last snapshot
};

// One snapshot, taken a few threads at a time, so that our thread can do something else in between. Threads
// that come meanwhile are not in it. The watch must outlive it.
class ThreadWatch::Taking {
 public:
  explicit Taking(ThreadWatch& watch);
  ~Taking();
  Taking(const Taking&) = delete;
  Taking& operator=(const Taking&) = delete;

  // Looks at some more threads, for a few milliseconds; at last asks those that run. Seconds until it wants
  // to be called again; 0: that was all.
  double go_on();
  // After that, once.
  [[nodiscard]] ThreadSnapshot finish();

 private:
  using Look = ThreadLooker::Look;

  void look_at(pid_t tid);
  void remember(ThreadRow& row, std::int64_t now);
  double ask_running();
  [[nodiscard]] std::vector<Question> questions() const;
  void note_answer(const Question& question, std::span<const safe::Pc> pcs);
  void note_no_answer(const Question& question, std::string_view why);

  ThreadWatch& watch_;
  ThreadLooker looker_;
  std::vector<pid_t> tids_;  // to be looked at
  std::size_t done_ = 0;
  std::vector<std::size_t> running_;
  std::optional<ThreadQuestions> questions_;
  ThreadSnapshot snapshot_;
  std::unordered_map<pid_t, Seen> seen_;
};

}  // namespace profagent::service
