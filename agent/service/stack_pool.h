// The distinct stacks of one snapshot, or of one profile, each kept once. On our thread only.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "agent/safe/types.h"
#include "agent/safe/unwind.h"

namespace profagent::service {

class StackPool {
 public:
  // Nothing when it was not added.
  [[nodiscard]] std::optional<std::uint32_t> find(std::span<const safe::Pc> pcs) const {
    const auto [first, last] = by_hash_.equal_range(safe::hash_stack(pcs));
    for (auto at = first; at != last; ++at) {
      if (std::ranges::equal((*this)[at->second], pcs)) return at->second;
    }
    return std::nullopt;
  }

  std::uint32_t add(std::span<const safe::Pc> pcs) {
    if (const auto known = find(pcs)) return *known;
    const auto index = static_cast<std::uint32_t>(stacks_.size());
    stacks_.push_back({static_cast<std::uint32_t>(pcs_.size()), static_cast<std::uint32_t>(pcs.size())});
    pcs_.insert(pcs_.end(), pcs.begin(), pcs.end());
    by_hash_.emplace(safe::hash_stack(pcs), index);
    return index;
  }

  [[nodiscard]] std::span<const safe::Pc> operator[](std::uint32_t index) const {
    return std::span(pcs_).subspan(stacks_[index].begin, stacks_[index].depth);
  }
  // Of all stacks together.
  [[nodiscard]] std::size_t frame_count() const { return pcs_.size(); }
  [[nodiscard]] std::uint32_t size() const { return static_cast<std::uint32_t>(stacks_.size()); }

 private:
  struct Place {
    std::uint32_t begin;
    std::uint32_t depth;
  };
  std::vector<safe::Pc> pcs_;
  std::vector<Place> stacks_;
  std::unordered_multimap<std::uint64_t, std::uint32_t> by_hash_;
};

}  // namespace profagent::service
