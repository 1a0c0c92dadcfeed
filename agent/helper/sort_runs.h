// Sorts what consists of long sorted pieces, such as line tables: one piece for each function.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace profagent::helper {

// Equal values may change places.
template <typename Value, typename Less>
void sort_runs(std::span<Value> values, Less less) {
  // Of shorter runs than these std::sort makes less work.
  constexpr std::size_t kShortRun = 8;
  std::vector<std::size_t> ends;
  const std::size_t most = values.size() / kShortRun;
  for (std::size_t end = 1; end <= values.size(); ++end) {
    if (end != values.size() && !less(values[end], values[end - 1])) continue;
    ends.push_back(end);
    if (ends.size() > most) return std::sort(values.begin(), values.end(), less);
  }
  if (ends.size() < 2) return;

  std::vector<Value> other(values.size());
  std::span<Value> from = values;
  std::span<Value> to = other;
  while (ends.size() > 1) {
    std::size_t begin = 0;
    std::size_t pairs = 0;
    for (std::size_t i = 0; i < ends.size(); i += 2) {
      const std::size_t middle = ends[i];
      const std::size_t end = i + 1 < ends.size() ? ends[i + 1] : middle;
      const auto at = [&](std::size_t place) { return from.begin() + static_cast<std::ptrdiff_t>(place); };
      std::merge(at(begin), at(middle), at(middle), at(end), to.begin() + static_cast<std::ptrdiff_t>(begin),
                 less);
      ends[pairs++] = end;
      begin = end;
    }
    ends.resize(pairs);
    std::swap(from, to);
  }
  if (from.data() != values.data()) std::copy(from.begin(), from.end(), values.begin());
}

}  // namespace profagent::helper
