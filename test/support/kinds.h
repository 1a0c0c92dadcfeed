// The profile kinds whose rules every test loops over. A new kind is one more name here.
#pragma once

namespace profagent::test {

// Answered at once, and as a difference with ?seconds=N.
inline constexpr const char* kSnapshotKinds[] = {"heap", "allocs"};

}  // namespace profagent::test
