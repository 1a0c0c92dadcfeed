// An array that grows at its end, in blocks: nothing moves, and never is there room for more than one block
// too much, where a growing vector has its elements twice while it moves. A block is what own_memory gives as
// a whole; its pages are touched as they are used.
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>
#include <vector>

namespace profagent::service {

template <typename T>
class Blocks {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  static constexpr std::size_t kBlockBytes = std::size_t{64} << 10;
  static constexpr std::size_t kPerBlock = kBlockBytes / sizeof(T);

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] const T& operator[](std::size_t position) const noexcept {
    return blocks_[position / kPerBlock][position % kPerBlock];
  }

  // Strong: after std::bad_alloc nothing has changed.
  void push_back(const T& value) { *add(1) = value; }

  // `count` new elements in one piece, not yet written; what a block has left is skipped if need be. At most
  // kPerBlock.
  T* add(std::size_t count) {
    std::size_t begin = size_;
    if (begin % kPerBlock + count > kPerBlock) begin += kPerBlock - begin % kPerBlock;
    if (begin / kPerBlock == blocks_.size())
      blocks_.push_back(std::make_unique_for_overwrite<T[]>(kPerBlock));
    size_ = begin + count;
    return &blocks_[begin / kPerBlock][begin % kPerBlock];
  }

  // Back to `size` elements, no more than there are; the blocks stay for those to come.
  void shrink(std::size_t size) noexcept { size_ = size; }

 private:
  std::vector<std::unique_ptr<T[]>> blocks_;
  std::size_t size_ = 0;
};

}  // namespace profagent::service
