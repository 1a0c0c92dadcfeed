#include "agent/helper/disjoint_ranges.h"

#include <algorithm>
#include <vector>

namespace profagent::helper {

namespace {

bool is_empty(const OwnedRange& range) {
  return range.begin >= range.end;
}

class Parts {
 public:
  void add(std::uint64_t end, const void* owner) {
    if (end <= reached_) return;
    if (!parts_.empty() && parts_.back().owner == owner && parts_.back().end == reached_) {
      parts_.back().end = end;
    } else {
      parts_.push_back({reached_, end, owner});
    }
    reached_ = end;
  }
  void skip_to(std::uint64_t begin) { reached_ = std::max(reached_, begin); }
  [[nodiscard]] const std::vector<OwnedRange>& all() const { return parts_; }

 private:
  std::vector<OwnedRange> parts_;
  std::uint64_t reached_ = 0;
};

std::vector<OwnedRange> parts_of(std::span<const OwnedRange> ranges) {
  Parts parts;
  std::vector<OwnedRange> open;  // the last on top
  for (const OwnedRange& range : ranges) {
    if (is_empty(range)) continue;
    for (; !open.empty() && open.back().end <= range.begin; open.pop_back())
      parts.add(open.back().end, open.back().owner);
    if (!open.empty()) parts.add(range.begin, open.back().owner);
    parts.skip_to(range.begin);
    open.push_back(range);
  }
  for (; !open.empty(); open.pop_back()) parts.add(open.back().end, open.back().owner);
  return parts.all();
}

// Copies of others do no harm where they stand.
void replace_empty_ranges(std::span<OwnedRange> ranges) {
  const auto some = std::ranges::find_if_not(ranges, is_empty);
  if (some == ranges.end()) return;
  std::fill(ranges.begin(), some, *some);
  for (auto range = some + 1; range != ranges.end(); ++range)
    if (is_empty(*range)) *range = *(range - 1);
}

}  // namespace

void make_disjoint(std::span<OwnedRange> ranges) {
  const auto overlap = [](const OwnedRange& a, const OwnedRange& b) {
    return is_empty(b) || b.begin < a.end;
  };
  if (ranges.empty() || (!is_empty(ranges[0]) && std::ranges::adjacent_find(ranges, overlap) == ranges.end()))
    return;
  const std::vector<OwnedRange> parts = parts_of(ranges);
  if (parts.empty() || parts.size() > ranges.size()) return replace_empty_ranges(ranges);
  std::ranges::fill(std::ranges::copy(parts, ranges.begin()).out, ranges.end(), parts.back());
}

}  // namespace profagent::helper
