// Questions about block and mutex profiles.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "test/support/victim.h"

namespace profagent::test {

// Every wait is recorded, all the time.
inline const Environment kEveryWait = {{"PROFAGENT_BLOCK_PROFILE_RATE", "1"},
                                       {"PROFAGENT_MUTEX_PROFILE_FRACTION", "1"}};

// What every block or mutex profile has to obey; what it does not, in words.
[[nodiscard]] std::vector<std::string> broken_wait_rules(const Profile& profile);

// The samples whose label `wait` is one of a kind, such as "cond".
[[nodiscard]] std::vector<Sample> of_kind(const Profile& profile, const std::string& kind);
// ns of delay in all of them, and in those that a function is in.
[[nodiscard]] std::int64_t delay_of(const std::vector<Sample>& samples);
[[nodiscard]] std::int64_t delay_in(const std::vector<Sample>& samples, const std::string& function);

// What is at the top: the sample with the most delay. Of none, an empty one.
[[nodiscard]] Sample top_of(const std::vector<Sample>& samples);
// The same for a label: the value with the most delay, "" when no sample has the label.
[[nodiscard]] std::string top_label(const std::vector<Sample>& samples, const std::string& label);

}  // namespace profagent::test
