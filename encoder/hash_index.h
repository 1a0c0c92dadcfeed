// An index over somebody else's array: from a key's hash to the position of the element that holds the key.
// Eight bytes a slot, no copy of the keys; the owner compares. Positions are 32 bits, as all of this
// folder's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace profagent::encoder {

[[nodiscard]] inline std::uint64_t hash_bytes(std::string_view bytes) {
  return std::hash<std::string_view>{}(bytes);
}

// Mixes one more number into a hash (the finalizer of MurmurHash3, whose every input bit reaches every
// output bit).
[[nodiscard]] constexpr std::uint64_t hash_mix(std::uint64_t hash, std::uint64_t value) {
  hash ^= value + 0x9e3779b97f4a7c15U + (hash << 6U) + (hash >> 2U);
  hash = (hash ^ (hash >> 33U)) * 0xff51afd7ed558ccdU;
  hash = (hash ^ (hash >> 33U)) * 0xc4ceb9fe1a85ec53U;
  return hash ^ (hash >> 33U);
}

class HashIndex {
 public:
  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

  // The position for which `equal(position)` holds, or kNone.
  template <typename Equal>
  [[nodiscard]] std::uint32_t find(std::uint64_t hash, Equal equal) const {
    if (slots_.empty()) return kNone;
    const std::uint32_t tag = fold(hash);
    for (std::size_t i = begin_of(tag);; i = after(i)) {
      if (slots_[i].position == kNone) return kNone;
      if (slots_[i].tag == tag && equal(slots_[i].position)) return slots_[i].position;
    }
  }

  // The caller has made sure by find() that the key is new, and has already stored the element.
  void insert(std::uint64_t hash, std::size_t position) {
    if (position >= kNone) throw std::length_error("profile too large");
    if ((used_ + 1) * 4 > slots_.size() * 3) grow();
    place({fold(hash), static_cast<std::uint32_t>(position)});
    ++used_;
  }

 private:
  struct Slot {
    std::uint32_t tag = 0;
    std::uint32_t position = kNone;
  };

  static std::uint32_t fold(std::uint64_t hash) { return static_cast<std::uint32_t>(hash ^ (hash >> 32U)); }

  // Not the remainder: it takes any number of slots, and no division.
  [[nodiscard]] std::size_t begin_of(std::uint32_t tag) const {
    return static_cast<std::size_t>(std::uint64_t{tag} * slots_.size() >> 32U);
  }
  [[nodiscard]] std::size_t after(std::size_t i) const { return i + 1 == slots_.size() ? 0 : i + 1; }

  void place(Slot slot) {
    std::size_t i = begin_of(slot.tag);
    while (slots_[i].position != kNone) i = after(i);
    slots_[i] = slot;
  }

  // By half: the double would be three fifths empty at first, and is more beside the old ones.
  void grow() {
    std::vector<Slot> old(slots_.empty() ? 16 : slots_.size() + slots_.size() / 2);
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.position != kNone) place(slot);
    }
  }

  std::vector<Slot> slots_;  // at most three quarters full
  std::size_t used_ = 0;
};

}  // namespace profagent::encoder
