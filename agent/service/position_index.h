// An index over somebody else's array, from what an element holds to its position, in four bytes a slot: half
// of what encoder::HashIndex takes. For that the owner must be able to hash an element again when the index
// grows, and compares a few more of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace profagent::service {

class PositionIndex {
 public:
  // Stands for no position.
  static constexpr std::uint32_t kNone = 0;

  // The position for which `equal(position)` holds, or kNone.
  template <typename Equal>
  [[nodiscard]] std::uint32_t find(std::uint64_t hash, Equal equal) const {
    if (slots_.empty()) return kNone;
    std::size_t at = begin_of(hash);
    while (slots_[at] != kNone && !equal(slots_[at])) at = after(at);
    return slots_[at];
  }

  // Room for one more. After std::bad_alloc nothing has changed.
  template <typename HashOf>
  void reserve(HashOf hash_of) {
    if ((used_ + 1) * 4 <= slots_.size() * 3) return;
    // By half: by more, most of it would be empty for long.
    std::vector<std::uint32_t> old(slots_.size() + slots_.size() / 2 + kFirst);
    old.swap(slots_);
    for (const std::uint32_t position : old)
      if (position != kNone) place(hash_of(position), position);
  }

  // The caller has made sure by find() that it is new, and has made room by reserve().
  void insert(std::uint64_t hash, std::uint32_t position) noexcept {
    place(hash, position);
    ++used_;
  }

  [[nodiscard]] std::size_t bytes() const noexcept { return slots_.size() * sizeof(std::uint32_t); }

 private:
  static constexpr std::size_t kFirst = 64;

  // Not the remainder: it takes any number of slots, and no division. The upper half of the hash decides.
  [[nodiscard]] std::size_t begin_of(std::uint64_t hash) const noexcept {
    return (hash >> 32U) * slots_.size() >> 32U;
  }
  [[nodiscard]] std::size_t after(std::size_t at) const noexcept {
    return at + 1 == slots_.size() ? 0 : at + 1;
  }
  void place(std::uint64_t hash, std::uint32_t position) noexcept {
    std::size_t at = begin_of(hash);
    while (slots_[at] != kNone) at = after(at);
    slots_[at] = position;
  }

  std::vector<std::uint32_t> slots_;  // at most three quarters full
  std::size_t used_ = 0;
};

}  // namespace profagent::service
