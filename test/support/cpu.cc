#include "test/support/cpu.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>

#include "encoder/proto/profile.pb.h"

namespace profagent::test {

InBackground::InBackground(Victim& victim, const std::string& target) {
  // Each of these is one. The answer to one that comes behind ours says that ours was begun.
  std::int64_t requests = agent_number(victim, "requests");
  if (requests < 0) throw std::runtime_error("the agent does not tell how many requests there were");
  answer_ = std::async(std::launch::async,
                       [address = victim.unix_address(), target] { return http_get(address, target); });
  const auto is_over = [&] { return answer_.wait_for(std::chrono::seconds(0)) == std::future_status::ready; };
  if (!eventually([&] { return agent_number(victim, "requests") > ++requests || is_over(); }))
    throw std::runtime_error("the agent does not hear " + target);
}

Profile InBackground::profile() {
  const Response response = answer_.get();
  if (response.status != 200)
    throw std::runtime_error("answered " + std::to_string(response.status) + ": " + response.body);
  return Profile::parse(response.body);
}

double untold(const Profile& profile) {
  return static_cast<double>(2 * profile.message().period() + 2 * kLongestTick);
}

std::int64_t begin_of(const Profile& profile) {
  return profile.message().time_nanos();
}

std::int64_t end_of(const Profile& profile) {
  return profile.message().time_nanos() + profile.message().duration_nanos();
}

std::vector<std::string> broken_rules(const Profile& profile) {
  std::vector<std::string> broken;
  const auto demand = [&](bool holds, const std::string& rule) {
    if (!holds) broken.push_back(rule);
  };
  const auto& message = profile.message();
  demand(profile.types() == std::vector<std::string>{"samples/count", "cpu/nanoseconds"}, "types");
  demand(profile.text(message.period_type().type()) == "cpu", "type of the period");
  demand(profile.text(message.period_type().unit()) == "nanoseconds", "unit of the period");
  demand(message.period() > 0, "period");
  demand(message.duration_nanos() > 0, "duration");
  demand(message.time_nanos() > 0, "time");
  std::set<std::string> seen;
  for (const Sample& sample : profile.samples()) {
    std::string identity = sample.key();
    demand(sample.values[0] > 0, "a sample of nothing: " + identity);
    demand(sample.values[1] == sample.values[0] * message.period(), "not samples times period: " + identity);
    demand(!sample.stack.empty(), "no stack: " + identity);
    // Time of threads that nobody has seen has no thread.
    demand(sample.labels.count("thread") == 1 || is_not_sampled(sample), "no thread: " + identity);
    for (const Frame& frame : sample.stack) {
      identity += " " + std::to_string(frame.address);
      demand(frame.address != 0, "address 0: " + identity);
      // What the program spends in our hooks is its time; what the signal's handler does must not be seen.
      const bool is_ours = frame.mapping.find("libprofagent") != std::string::npos;
      demand(!is_ours || frame.name.find("on_signal") == std::string::npos, "the handler: " + identity);
      demand(frame.name.find("profagent_sigreturn") == std::string::npos, "the handler's end: " + identity);
    }
    demand(seen.insert(identity).second, "twice: " + identity);
  }
  return broken;
}

bool is_not_sampled(const Sample& sample) {
  return sample.stack.size() == 1 && sample.stack[0].name.rfind("[not sampled", 0) == 0;
}

namespace {

template <typename Choose>
std::map<std::string, std::int64_t> by_thread(const Profile& profile, Choose choose) {
  std::map<std::string, std::int64_t> result;
  for (const Sample& sample : profile.samples())
    if (sample.labels.count("thread") == 1 && choose(sample))
      result[sample.labels.at("thread")] += sample.values.at(1);
  return result;
}

}  // namespace

std::map<std::string, std::int64_t> nanos_by_thread(const Profile& profile) {
  return by_thread(profile, [](const Sample&) { return true; });
}

std::map<std::string, std::int64_t> not_sampled_by_thread(const Profile& profile) {
  return by_thread(profile, [](const Sample& sample) {
    return is_not_sampled(sample) && sample.stack[0].name != "[not sampled: too short for a sample]";
  });
}

std::int64_t nanos_in(const Profile& profile, const std::string& function) {
  return profile.total("cpu").in(function);
}

std::int64_t sampled_nanos(const Profile& profile) {
  std::int64_t result = 0;
  for (const Sample& sample : profile.samples())
    if (!is_not_sampled(sample)) result += sample.values.at(1);
  return result;
}

std::vector<std::string> harmed_waits(Victim& victim) {
  const std::size_t before = victim.process().out().size();
  victim.command("report");
  std::istringstream lines(victim.process().out().substr(before));
  std::string name;
  std::vector<std::string> harmed;
  std::size_t calls = 0;
  for (unsigned long rounds = 0, interrupted = 0, early = 0, other = 0;
       lines >> name >> rounds >> interrupted >> early >> other; ++calls) {
    if (rounds == 0) harmed.push_back(name + " was not called");
    if (interrupted + early + other == 0) continue;
    harmed.push_back(name + ": " + std::to_string(interrupted) + " interrupted, " + std::to_string(early) +
                     " early, " + std::to_string(other) + " other");
  }
  if (calls != kCountedWaits) harmed.push_back(std::to_string(calls) + " calls");
  return harmed;
}

std::string described(const Profile& profile) {
  std::string result = std::to_string(profile.message().duration_nanos()) + " ns\n";
  for (const Sample& sample : profile.samples())
    result += std::to_string(sample.values.at(1)) + " " + sample.key() + "\n";
  for (const std::string& comment : profile.comments()) result += comment + "\n";
  return result;
}

bool has_call(const Profile& profile, const std::string& caller, const std::string& callee) {
  return std::any_of(profile.samples().begin(), profile.samples().end(), [&](const Sample& sample) {
    for (std::size_t i = 1; i < sample.stack.size(); ++i)
      if (sample.stack[i].name == caller && sample.stack[i - 1].name == callee) return true;
    return false;
  });
}

namespace {

// By the signals that timers raise; those of threads only.
std::optional<std::map<int, int>> timers_by_signal(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/timers");
  if (!file) return std::nullopt;
  std::map<int, int> counts;
  int signal = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("signal: ", 0) == 0) signal = std::stoi(line.substr(8));
    if (line.find("signal/tid.") != std::string::npos) ++counts[signal];
  }
  return counts;
}

int sum_of(const std::map<int, int>& counts) {
  int sum = 0;
  for (const auto& [signal, count] : counts) sum += count;
  return sum;
}

}  // namespace

int timer_count(pid_t pid) {
  const auto counts = timers_by_signal(pid);
  if (!counts) return -1;
  return sum_of(*counts);
}

int cpu_timer_count(pid_t pid) {
  auto counts = timers_by_signal(pid);
  if (!counts) return -1;
  counts->erase(SIGURG);
  counts->erase(SIGCONT);
  return sum_of(*counts);
}

std::int64_t agent_number(Victim& victim, const std::string& name) {
  return agent_number(victim.unix_address(), name);
}

std::int64_t agent_number(const Address& address, const std::string& name) {
  const std::string page = http_get(address, "/debug/pprof/agent").body;
  std::smatch match;
  const std::regex number("\"" + name + "\": (\\d+)");
  return std::regex_search(page, match, number) ? std::stoll(match[1]) : -1;
}

std::string status_line(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.rfind(name + ":", 0) == 0) return line.substr(line.find_first_not_of(" \t", name.size() + 1));
  return "";
}

std::vector<pid_t> threads_of(pid_t pid) {
  std::vector<pid_t> result;
  std::error_code error;
  const std::string folder = "/proc/" + std::to_string(pid) + "/task";
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    result.push_back(std::stoi(entry.path().filename().string()));
  return result;
}

std::string answer_to(Victim& victim, const std::string& command) {
  const std::size_t before = victim.process().out().size();
  victim.command(command);
  const std::string text = victim.process().out().substr(before);
  return text.substr(0, text.find('\n'));
}

std::string last_line(const Process& process, const std::string& first) {
  std::istringstream lines(process.out());
  std::string found;
  for (std::string line; std::getline(lines, line);)
    if (line.rfind(first + " ", 0) == 0) found = line.substr(first.size() + 1);
  return found;
}

namespace {

std::int64_t nanos_of(clockid_t clock) {
  timespec time{};
  if (clock_gettime(clock, &time) != 0) return 0;
  return time.tv_sec * kSecond + time.tv_nsec;
}

// The agent's thread is no thread of the program, and in no profile.
std::int64_t agents_own_cpu(pid_t pid) {
  const std::string folder = "/proc/" + std::to_string(pid) + "/task/";
  for (const pid_t tid : threads_of(pid)) {
    const std::string task = folder + std::to_string(tid);
    if (read_text(task + "/comm") == "profagent\n") return std::atoll(read_text(task + "/schedstat").c_str());
  }
  return 0;
}

}  // namespace

CpuMeter::CpuMeter(pid_t pid) : pid_(pid) {
  clockid_t clock = 0;
  if (clock_getcpuclockid(pid, &clock) != 0) throw std::runtime_error("no such process");
  thread_ = std::thread([this, clock] {
    while (!stop_) {
      const std::int64_t time = nanos_of(CLOCK_REALTIME);
      const std::int64_t used = nanos_of(clock);
      // One in the middle of which we were held up is of no certain time.
      if (nanos_of(CLOCK_REALTIME) - time < kSecond / 1000) {
        const Reading reading{time, used - agents_own_cpu(pid_)};
        const std::lock_guard lock(mutex_);
        readings_.push_back(reading);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  });
  // Nothing may be asked of a time before the first.
  eventually([&] {
    const std::lock_guard lock(mutex_);
    return !readings_.empty();
  });
}

CpuMeter::~CpuMeter() {
  stop_ = true;
  thread_.join();
}

std::size_t CpuMeter::reading_after(std::int64_t time) const {
  for (std::size_t i = 1; i < readings_.size(); ++i)
    if (readings_[i].time >= time) return i;
  throw std::runtime_error("the meter was not there at that time");
}

double CpuMeter::used_at(std::int64_t time) const {
  const std::size_t position = reading_after(time);
  const Reading& before = readings_[position - 1];
  const Reading& after = readings_[position];
  const double part = static_cast<double>(time - before.time) / static_cast<double>(after.time - before.time);
  return static_cast<double>(before.used) + part * static_cast<double>(after.used - before.used);
}

void CpuMeter::wait_for_end_of(const Profile& profile) const {
  eventually([&] {
    const std::lock_guard lock(mutex_);
    return !readings_.empty() && readings_.back().time >= end_of(profile);
  });
}

double CpuMeter::doubt_in(const Profile& profile) const {
  wait_for_end_of(profile);
  const std::lock_guard lock(mutex_);
  const std::size_t begin = reading_after(begin_of(profile));
  const std::size_t end = reading_after(end_of(profile));
  return static_cast<double>(readings_[begin].time - readings_[begin - 1].time + readings_[end].time -
                             readings_[end - 1].time);
}

double CpuMeter::used_in(const Profile& profile) const {
  wait_for_end_of(profile);
  const std::lock_guard lock(mutex_);
  return used_at(end_of(profile)) - used_at(begin_of(profile));
}

bool wait_until_profiled(Victim& victim) {
  const pid_t pid = victim.process().pid();
  if (timer_count(pid) >= 0) return eventually([&] { return timer_count(pid) > 0; });
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  return true;
}

void abort_a_profile(Victim& victim, const std::string& target) {
  Connection connection(victim.unix_address());
  connection.send(to_bytes({.target = target}));
  if (!wait_until_profiled(victim)) throw std::runtime_error("there is no profile");
  connection.abort();
}

}  // namespace profagent::test
