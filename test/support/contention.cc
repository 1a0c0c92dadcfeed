#include "test/support/contention.h"

#include <algorithm>
#include <map>
#include <set>

#include "encoder/proto/profile.pb.h"

namespace profagent::test {

namespace {

const std::set<std::string> kKinds = {"mutex", "rwlock", "cond", "semaphore", "barrier",
                                      "join",  "futex",  "io",   "sleep"};

std::int64_t nanos(const Sample& sample) {
  return sample.values.at(1);
}

}  // namespace

std::vector<std::string> broken_wait_rules(const Profile& profile) {
  std::vector<std::string> broken;
  const auto demand = [&](bool holds, const std::string& rule) {
    if (!holds) broken.push_back(rule);
  };
  const auto& message = profile.message();
  demand(profile.types() == std::vector<std::string>{"contentions/count", "delay/nanoseconds"}, "types");
  demand(profile.text(message.period_type().type()) == "contentions", "type of the period");
  demand(message.period() == 1, "period");
  demand(message.time_nanos() > 0, "time");
  std::set<std::string> seen;
  for (const Sample& sample : profile.samples()) {
    std::string identity = sample.key();
    demand(sample.values[0] > 0, "no contention: " + identity);
    demand(sample.values[1] > 0, "no delay: " + identity);
    demand(!sample.stack.empty(), "no stack: " + identity);
    const auto kind = sample.labels.find("wait");
    demand(kind == sample.labels.end() || kKinds.count(kind->second) == 1, "unknown wait: " + identity);
    for (const Frame& frame : sample.stack) {
      identity += " " + std::to_string(frame.address);
      demand(frame.address != 0, "address 0: " + identity);
      demand(frame.mapping.find("libprofagent") == std::string::npos, "a frame of ours: " + identity);
    }
    demand(seen.insert(identity).second, "twice: " + identity);
  }
  return broken;
}

std::vector<Sample> of_kind(const Profile& profile, const std::string& kind) {
  std::vector<Sample> result;
  for (const Sample& sample : profile.samples()) {
    const auto label = sample.labels.find("wait");
    if (label != sample.labels.end() && label->second == kind) result.push_back(sample);
  }
  return result;
}

std::int64_t delay_of(const std::vector<Sample>& samples) {
  std::int64_t result = 0;
  for (const Sample& sample : samples) result += nanos(sample);
  return result;
}

std::int64_t delay_in(const std::vector<Sample>& samples, const std::string& function) {
  std::int64_t result = 0;
  for (const Sample& sample : samples)
    if (sample.has(function)) result += nanos(sample);
  return result;
}

Sample top_of(const std::vector<Sample>& samples) {
  const auto top = std::max_element(samples.begin(), samples.end(),
                                    [](const Sample& a, const Sample& b) { return nanos(a) < nanos(b); });
  return top == samples.end() ? Sample() : *top;
}

std::string top_label(const std::vector<Sample>& samples, const std::string& label) {
  std::map<std::string, std::int64_t> delays;
  for (const Sample& sample : samples)
    if (const auto found = sample.labels.find(label); found != sample.labels.end())
      delays[found->second] += nanos(sample);
  const auto top = std::max_element(delays.begin(), delays.end(),
                                    [](const auto& a, const auto& b) { return a.second < b.second; });
  return top == delays.end() ? "" : top->first;
}

}  // namespace profagent::test
