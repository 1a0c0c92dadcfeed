// Reads call-frame information (.eh_frame_hdr, .eh_frame). Nothing outside the given bounds is ever touched.
// Trusted memory (a segment of a module that cannot go away: one of its functions is on our stack) is loaded
// directly; all other through the kernel, which reports instead of faulting.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace profagent::safe {

class CfiMemory {
 public:
  enum class Trust : bool { kProbe, kDirect };

  CfiMemory(std::uintptr_t begin, std::uintptr_t end, Trust trust) noexcept
      : begin_(begin), end_(end < begin ? begin : end), trust_(trust) {}

  [[nodiscard]] std::uintptr_t begin() const noexcept { return begin_; }
  [[nodiscard]] std::uintptr_t end() const noexcept { return end_; }
  [[nodiscard]] bool contains(std::uintptr_t at, std::size_t bytes) const noexcept {
    return at >= begin_ && at <= end_ && bytes <= end_ - at;
  }

  template <typename T>
  [[nodiscard]] bool load(std::uintptr_t at, T& value) noexcept {
    if (!contains(at, sizeof(T))) return false;
    if (trust_ == Trust::kProbe) return load_by_kernel(at, &value, sizeof(T));
    std::memcpy(&value, reinterpret_cast<const void*>(at), sizeof(T));
    return true;
  }

 private:
  bool load_by_kernel(std::uintptr_t at, void* to, std::size_t bytes) noexcept;

  std::uintptr_t begin_;
  std::uintptr_t end_;
  std::uintptr_t buffered_ = 0;
  std::uint32_t buffered_bytes_ = 0;
  Trust trust_;
  unsigned char buffer_[64];  // one call of the kernel serves the next reads as well
};

// Bases of pointer encodings (DW_EH_PE_*).
struct CfiBases {
  std::uintptr_t data = 0;      // .eh_frame_hdr
  std::uintptr_t function = 0;  // of the FDE
};

inline constexpr std::uint8_t kPointerOmitted = 0xff;

// Reads forward. After a failed read ok() is false and every later read yields 0.
class CfiCursor {
 public:
  CfiCursor(CfiMemory& memory, std::uintptr_t at, std::uintptr_t end) noexcept
      : memory_(&memory), at_(at), end_(end), ok_(at <= end && memory.contains(at, end - at)) {}

  [[nodiscard]] bool ok() const noexcept { return ok_; }
  [[nodiscard]] bool done() const noexcept { return !ok_ || at_ >= end_; }
  [[nodiscard]] std::uintptr_t at() const noexcept { return at_; }
  [[nodiscard]] std::uintptr_t end() const noexcept { return end_; }
  [[nodiscard]] CfiMemory& memory() const noexcept { return *memory_; }
  void fail() noexcept { ok_ = false; }
  void skip(std::uint64_t bytes) noexcept;
  // Moves within the block this cursor was made for. `delta` counts from the present place.
  void jump(std::int64_t delta, std::uintptr_t block_begin) noexcept;

  template <typename T>
  T take() noexcept {
    T value{};
    if (!ok_ || end_ - at_ < sizeof(T) || !memory_->load(at_, value)) {
      ok_ = false;
      return T{};
    }
    at_ += sizeof(T);
    return value;
  }
  std::uint8_t u8() noexcept { return take<std::uint8_t>(); }
  std::uint64_t uleb() noexcept;
  std::int64_t sleb() noexcept;
  // A DW_EH_PE pointer. Indirect ones fail: none of the pointers that we need is one.
  std::uintptr_t pointer(std::uint8_t encoding, const CfiBases& bases) noexcept;
  // Reads a pointer's bare number, and forgets it.
  void skip_pointer(std::uint8_t encoding) noexcept;

 private:
  std::uint64_t pointer_number(std::uint8_t encoding) noexcept;

  CfiMemory* memory_;
  std::uintptr_t at_;
  std::uintptr_t end_;
  bool ok_;
};

}  // namespace profagent::safe
