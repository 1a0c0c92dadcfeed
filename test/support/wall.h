// Questions about wall profiles.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "test/support/victim.h"

namespace profagent::test {

inline const std::string kWall = "/debug/pprof/wall?seconds=";

// What every wall profile has to obey; what it does not, in words.
[[nodiscard]] std::vector<std::string> broken_wall_rules(const Profile& profile);

[[nodiscard]] std::int64_t wall_nanos(const std::vector<Sample>& samples);

// How often each thread was looked at, and ms by which the looks came late in all; as the comments say.
[[nodiscard]] std::int64_t rounds_of(const Profile& profile);
[[nodiscard]] std::int64_t late_of(const Profile& profile);

// True while a wall profile is being taken.
[[nodiscard]] bool takes_wall(Victim& victim);

}  // namespace profagent::test
