// What happened between two snapshots of the same kind, as Go's `?seconds=N` answers it.
#pragma once

#include "encoder/profile.h"

namespace profagent::encoder {

// after - before. Samples are the same when the addresses of their stacks and their labels are: mappings and
// names may be described differently, and `after` is believed. Samples that did not change are left out, and
// so are the mappings, locations and functions that nothing refers to any more, except the first mapping,
// which names the program. Values can be negative. Time, comments and documentation are those of `after`, the
// period and the default sample type those of `before`; the duration is the time between the two, at least 1
// ns: readers know a delta by a duration above 0, and a clock may have been set back. Throws
// std::invalid_argument when the sample types differ.
//
// Bit i of `absolute` leaves the values of sample type i as they are in `after`; a sample in which the others
// did not change is then left out only when these are 0.
[[nodiscard]] Profile delta(const Profile& before, const Profile& after, unsigned absolute = 0);

}  // namespace profagent::encoder
