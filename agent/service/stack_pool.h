// The distinct stacks of one snapshot, each kept once. On our thread only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "agent/safe/types.h"
#include "agent/safe/unwind.h"

namespace profagent::service {

class StackPool {
 public:
  std::uint32_t add(std::span<const safe::Pc> pcs) {
    const std::uint64_t hash = safe::hash_stack(pcs);
    const auto [first, last] = by_hash_.equal_range(hash);
    for (auto at = first; at != last; ++at) {
      if (std::ranges::equal((*this)[at->second], pcs)) return at->second;
    }
    const auto index = static_cast<std::uint32_t>(stacks_.size());
    stacks_.push_back({static_cast<std::uint32_t>(pcs_.size()), static_cast<std::uint32_t>(pcs.size())});
    pcs_.insert(pcs_.end(), pcs.begin(), pcs.end());
    by_hash_.emplace(hash, index);
    return index;
  }

  [[nodiscard]] std::span<const safe::Pc> operator[](std::uint32_t index) const {
    return std::span(pcs_).subspan(stacks_[index].begin, stacks_[index].depth);
  }
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
