// Questions about CPU profiles, and about what a process does while one is taken.
#pragma once

#include <atomic>
#include <future>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "test/support/victim.h"

namespace profagent::test {

inline constexpr std::int64_t kSecond = 1000000000;
inline constexpr std::int64_t kLongestTick = kSecond / 100;

// One request that takes its time. Destroying it waits for the answer.
// Its time has begun when this has been made.
class InBackground {
 public:
  InBackground(Victim& victim, const std::string& target);
  Response response() { return answer_.get(); }
  Profile profile();

 private:
  std::future<Response> answer_;
};

// When a profile began and ended, by the wall clock, ns.
[[nodiscard]] std::int64_t begin_of(const Profile& profile);
[[nodiscard]] std::int64_t end_of(const Profile& profile);

// What every CPU profile has to obey; what it does not, in words.
[[nodiscard]] std::vector<std::string> broken_rules(const Profile& profile);

// ns of CPU time that a profile may lack without saying so (docs/limits.md), be it little or much in all.
[[nodiscard]] double untold(const Profile& profile);

// ns, summed by the label `thread`; of all samples that have one, or only of those with the frame "[not
// sampled" for a reason of the thread's, not for the end of the profile.
[[nodiscard]] std::map<std::string, std::int64_t> nanos_by_thread(const Profile& profile);
[[nodiscard]] std::map<std::string, std::int64_t> not_sampled_by_thread(const Profile& profile);
[[nodiscard]] bool is_not_sampled(const Sample& sample);
// ns of the samples that a function is in.
[[nodiscard]] std::int64_t nanos_in(const Profile& profile, const std::string& function);
// ns of the samples that have a stack. How much has none, on a busy machine, is up to the kernel's scheduler.
[[nodiscard]] std::int64_t sampled_nanos(const Profile& profile);
// All samples and comments, for the message of a test that fails.
[[nodiscard]] std::string described(const Profile& profile);
// True when `callee` was called by `caller`, without anything between them, in some sample.
[[nodiscard]] bool has_call(const Profile& profile, const std::string& caller, const std::string& callee);

// POSIX timers of the process' threads now; and without those by which a thread is asked where it stands.
// -1 where the kernel does not tell.
[[nodiscard]] int timer_count(pid_t pid);
[[nodiscard]] int cpu_timer_count(pid_t pid);
// A number from the page of the agent about itself; -1 when it is not there.
[[nodiscard]] std::int64_t agent_number(Victim& victim, const std::string& name);
[[nodiscard]] std::int64_t agent_number(const Address& address, const std::string& name);
// A line of /proc/PID/status, or of a thread's: its value.
[[nodiscard]] std::string status_line(const std::string& path, const std::string& name);
[[nodiscard]] std::vector<pid_t> threads_of(pid_t pid);
// The first line that the victim says to a command.
[[nodiscard]] std::string answer_to(Victim& victim, const std::string& command);
// The last line of the process' output that begins with `first` and a blank; the rest of it.
[[nodiscard]] std::string last_line(const Process& process, const std::string& first);

// What the victim cpu_waits has seen go wrong in calls that wait, in words; and calls that it has not made.
// 34 calls that wait, and three that move many bytes.
inline constexpr std::size_t kCountedWaits = 37;
[[nodiscard]] std::vector<std::string> harmed_waits(Victim& victim);

// Follows the CPU time that a process uses, from outside, as long as it exists.
class CpuMeter {
 public:
  explicit CpuMeter(pid_t pid);
  ~CpuMeter();
  CpuMeter(const CpuMeter&) = delete;
  CpuMeter& operator=(const CpuMeter&) = delete;
  // ns that were used in the window of the profile, by all threads but the agent's.
  [[nodiscard]] double used_in(const Profile& profile) const;
  // How far off that may be for one busy thread: the two times between readings in which the window begins
  // and ends.
  [[nodiscard]] double doubt_in(const Profile& profile) const;

 private:
  struct Reading {
    std::int64_t time;
    std::int64_t used;
  };
  void wait_for_end_of(const Profile& profile) const;
  // The first reading at or after a time; there is one before it.
  [[nodiscard]] std::size_t reading_after(std::int64_t time) const;
  [[nodiscard]] double used_at(std::int64_t time) const;
  pid_t pid_;
  std::atomic<bool> stop_ = false;
  mutable std::mutex mutex_;
  std::vector<Reading> readings_;
  std::thread thread_;
};

// Waits until the profile that was asked for has its timers. A program of one thread, which has none of ours
// until somebody asks, takes a moment. False when there are none.
[[nodiscard]] bool wait_until_profiled(Victim& victim);

// The client that goes away in the middle: asks, waits until the profile runs, and resets the connection.
void abort_a_profile(Victim& victim, const std::string& target);

}  // namespace profagent::test
