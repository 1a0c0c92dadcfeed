// Looks at all threads, running or blocked, for as long as somebody asks: one sampler for all requests, a
// window of it for each. On our thread only.
//
// It works in rounds. A round begins with the list of threads and looks at each of them once, in random
// order, as fast as its CPU time allows (wall_pace.h). A thread whose CPU clock stands still stands where it
// stood, which one system call tells. A running one is asked, and its time is charged when the answer has
// come; the looks go on meanwhile. Each look stands for the time that is nearer to it than to the thread's
// other looks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include <sys/types.h>

#include "agent/safe/thread_asks.h"
#include "agent/safe/thread_name.h"
#include "agent/service/thread_asking.h"
#include "agent/service/thread_look.h"
#include "agent/service/wall_pace.h"
#include "agent/service/wall_table.h"

namespace profagent::service {

class WallSampler {
  // All times: CLOCK_MONOTONIC, ns.
  struct Stay {
    std::int64_t from = 0;
    std::int64_t to = 0;
    std::uint64_t looks = 0;
  };
  struct Thread {
    pid_t tid = 0;
    std::int64_t born = 0;
    safe::ThreadName name;
    std::int64_t named_at = 0;
    bool was_listed = false;
    bool is_new = false;    // to be looked at before the next round
    bool had_slot = false;  // at the last walk
    std::uint64_t cpu = 0;  // ns, before the last walk
    // Where it was found, and for how long that is not charged yet.
    WallPlace place;
    std::int64_t looked_at = 0;  // 0: not yet
    std::int64_t charged_until = 0;
    std::uint64_t looks = 0;
    safe::ThreadAsks::Ask ask;  // null: it is not being asked
    std::int64_t asked_at = 0;
    bool is_open = false;    // the answer will be the place
    std::vector<Stay> owed;  // to be charged to the answer
  };

 public:
  // As ThreadAsking's.
  WallSampler(std::function<int()> asking_signal, std::int64_t filters_at_load);
  ~WallSampler();
  WallSampler(const WallSampler&) = delete;
  WallSampler& operator=(const WallSampler&) = delete;

  // One request's part. The sampler runs while there is one.
  class Window {
   public:
    ~Window();
    Window(const Window&) = delete;
    Window& operator=(const Window&) = delete;

    struct Result {
      WallTable table;
      std::int64_t nanos = 0;  // from the window's begin to its end
      std::uint64_t rounds = 0;
      // For how long looks were due and our thread had no processor, ns. It gets one when the program needs
      // fewer, so that much of each thread's time may be charged to where it waits.
      std::int64_t late = 0;
    };
    // Takes the window's end when it is called first, then a part at a time of what is open up to there, for
    // a few milliseconds. Seconds until it wants to be called again; 0: nothing is left.
    double wind_up();
    // After that, once. Answers that have not come are waited for no longer, by this window alone.
    [[nodiscard]] Result finish();

   private:
    friend class WallSampler;
    static constexpr std::int64_t kOpen = std::numeric_limits<std::int64_t>::max();

    Window(WallSampler& sampler, std::int64_t period, bool by_tid)
        : sampler_(sampler), period_(period), by_tid_(by_tid) {}

    void begin_end();
    bool settle_some();
    [[nodiscard]] bool is_owed(const Stay& stay) const { return stay.from < end_ && stay.to > begin_; }
    void charge(const Thread& thread, const WallPlace& place, const Stay& stay);
    void note_late(std::int64_t late);

    WallSampler& sampler_;
    std::int64_t period_;
    bool by_tid_;
    std::int64_t begin_ = 0;
    std::int64_t end_ = kOpen;
    std::vector<pid_t> unsettled_;        // once it has its end
    std::int64_t last_patience_end_ = 0;  // 0: something is unsettled
    Result result_;
  };

  // `period` in ns; the shortest of all windows is the one in force.
  [[nodiscard]] std::unique_ptr<Window> open(std::int64_t period, bool by_tid);

  // Looks when that is due, at new threads at once, for a few milliseconds. Seconds until it wants to be
  // called again.
  double tend();

  [[nodiscard]] bool is_running() const noexcept { return !windows_.empty(); }
  [[nodiscard]] std::size_t thread_count() const noexcept { return threads_.size(); }

 private:
  void start(std::int64_t now);
  void stop();
  void close(const Window& window);
  [[nodiscard]] std::int64_t period() const;

  void tick();
  void set_next_tick();
  void list();
  void begin_round();
  // For a few milliseconds. True: there are more.
  bool look_at_newborn();
  [[nodiscard]] static Thread newborn(pid_t tid, std::int64_t born);
  // False: it has not run since the last look.
  bool look_at(Thread& thread);
  [[nodiscard]] bool stands_still(const Thread& thread, std::uint64_t cpu) const;
  void walk(Thread& thread);
  void ask(Thread& thread);
  void collect_answers();
  void settle_answer(Thread& thread, std::optional<WallPlace> answer);
  // Where one who does not answer is said to be.
  [[nodiscard]] static WallPlace place_without_answer(const Thread& thread);

  void refresh_name(Thread& thread, std::int64_t now);
  void stay_until(Thread& thread, std::int64_t until);
  void charge(const Thread& thread, const WallPlace& place, const Stay& stay);
  void end_thread(Thread& thread, std::int64_t at);
  void settle(Thread& thread, std::int64_t until);

  ThreadLooker looker_;
  ThreadAsking asking_;
  WallPace pace_;
  std::vector<Window*> windows_;
  std::unordered_map<pid_t, Thread> threads_;
  std::vector<pid_t> round_;    // to be looked at before the next one begins, from the end
  std::vector<pid_t> asked_;    // who may have an answer to come
  std::vector<pid_t> newborn_;  // to be looked at first of all
  bool wants_slots_ = false;
  std::int64_t listed_at_ = 0;
  std::int64_t next_tick_ = 0;
};

}  // namespace profagent::service
