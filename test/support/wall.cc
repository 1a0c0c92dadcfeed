#include "test/support/wall.h"

#include <numeric>
#include <regex>
#include <stdexcept>

#include "encoder/proto/profile.pb.h"

namespace profagent::test {

namespace {

std::int64_t number_in_comments(const Profile& profile, const std::string& pattern) {
  const std::regex text(pattern);
  std::smatch match;
  for (const std::string& comment : profile.comments())
    if (std::regex_match(comment, match, text)) return std::stoll(match[1]);
  throw std::runtime_error("no comment: " + pattern);
}

}  // namespace

std::vector<std::string> broken_wall_rules(const Profile& profile) {
  std::vector<std::string> broken;
  const auto demand = [&](bool holds, const std::string& rule) {
    if (!holds) broken.push_back(rule);
  };
  const auto& message = profile.message();
  demand(profile.types() == std::vector<std::string>{"samples/count", "wall/nanoseconds"}, "types");
  demand(profile.text(message.period_type().type()) == "wall", "type of the period");
  demand(profile.text(message.period_type().unit()) == "nanoseconds", "unit of the period");
  demand(profile.text(message.default_sample_type()) == "wall", "default type");
  demand(message.period() > 0 && message.duration_nanos() > 0 && message.time_nanos() > 0, "times");
  for (const Sample& sample : profile.samples()) {
    const std::string key = sample.key();
    demand(sample.values[0] >= 0 && sample.values[1] > 0, "a sample of nothing: " + key);
    demand(!sample.stack.empty(), "no stack: " + key);
    demand(sample.labels.count("state") == 1, "no state: " + key);
    for (const Frame& frame : sample.stack) {
      // What the program's threads run in our hooks is their time.
      const bool is_ours = frame.mapping.find("libprofagent") != std::string::npos;
      demand(!is_ours || sample.labels.at("state") == "running", "a frame of ours: " + key);
    }
  }
  return broken;
}

std::int64_t wall_nanos(const std::vector<Sample>& samples) {
  return std::accumulate(samples.begin(), samples.end(), std::int64_t{0},
                         [](std::int64_t sum, const Sample& sample) { return sum + sample.values.at(1); });
}

std::int64_t rounds_of(const Profile& profile) {
  return number_in_comments(profile, "every thread was looked at (\\d+) times");
}

std::int64_t late_of(const Profile& profile) {
  return number_in_comments(profile, "looks came (\\d+) ms late, in all");
}

bool takes_wall(Victim& victim) {
  return victim.get("/debug/pprof/").body.find("<li>wall: running</li>") != std::string::npos;
}

}  // namespace profagent::test
