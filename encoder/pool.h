// Keeps copies of small arrays until it dies. A growing vector would hold its data twice while it moves, and
// move it; here nothing moves and at most one block is partly empty.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

namespace profagent::encoder {

class Pool {
 public:
  template <typename T>
  [[nodiscard]] std::span<const T> copy(std::span<const T> values) {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= alignof(std::max_align_t));
    if (values.empty()) return {};
    void* const place = allocate(values.size_bytes(), alignof(T));
    std::memcpy(place, values.data(), values.size_bytes());
    return {static_cast<const T*>(place), values.size()};
  }

 private:
  static constexpr std::size_t kFirstBlock = std::size_t{4} << 10U;
  static constexpr std::size_t kLargestBlock = std::size_t{256} << 10U;

  void* allocate(std::size_t bytes, std::size_t alignment) {
    void* place = next_;
    if (next_ == nullptr || std::align(alignment, bytes, place, left_) == nullptr) {
      const std::size_t size = std::max(bytes, block_size_);
      blocks_.push_back(std::make_unique_for_overwrite<std::byte[]>(size));
      block_size_ = std::min(block_size_ * 2, kLargestBlock);
      place = blocks_.back().get();
      left_ = size;
    }
    next_ = static_cast<std::byte*>(place) + bytes;
    left_ -= bytes;
    return place;
  }

  std::vector<std::unique_ptr<std::byte[]>> blocks_;
  std::byte* next_ = nullptr;
  std::size_t left_ = 0;
  std::size_t block_size_ = kFirstBlock;
};

}  // namespace profagent::encoder
