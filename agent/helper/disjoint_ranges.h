// libbacktrace looks for what is at an address in a table of ranges, sorted by their begin. It takes the last
// that begins there or before; when that one ends too early it gives up, unless others begin at the same
// place. But ranges lie in others and are empty: two units say of the same template that it is theirs, and
// only one goes on behind it; compilers put empty ranges in the middle of functions. Here a table becomes one
// in which no range lies in another.
#pragma once

#include <cstdint>
#include <span>

namespace profagent::helper {

// As libbacktrace has units and functions.
struct OwnedRange {
  std::uint64_t begin;
  std::uint64_t end;
  const void* owner;

  bool operator==(const OwnedRange&) const = default;
};

// `ranges` are sorted by begin, the longer first. Afterwards they are disjoint and sorted, but that the last
// may be there several times, and an address has the owner that was the last one to hold it. When that takes
// more ranges than there were, which is seldom (each empty one and each repetition makes room for one), only
// the empty ones are gone.
void make_disjoint(std::span<OwnedRange> ranges);

}  // namespace profagent::helper
