// What a victim has measured of itself: lines "NAME at_least at_most", in ns, in its output. `prefix` is what
// stands before the name, such as "waiter ".
#pragma once

#include <cstdint>
#include <map>
#include <regex>
#include <string>

namespace profagent::test {

struct Bounds {
  std::int64_t least = 0;
  std::int64_t most = 0;
};

inline std::map<std::string, Bounds> measured(const std::string& output, const std::string& prefix = {}) {
  std::map<std::string, Bounds> all;
  const std::regex line("(?:^|\n)" + prefix + "(\\w+) (\\d+) (\\d+)(?=\n)");
  for (std::sregex_iterator at(output.begin(), output.end(), line), end; at != end; ++at)
    all[(*at)[1]] = {std::stoll((*at)[2]), std::stoll((*at)[3])};
  return all;
}

}  // namespace profagent::test
