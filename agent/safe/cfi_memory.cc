#include "agent/safe/cfi_memory.h"

#include "agent/safe/sys.h"

namespace profagent::safe {

namespace {

constexpr unsigned kLastShift = 63;
constexpr unsigned kMaxLebBytes = 10;

// The lower half of a pointer encoding says how the number is stored, the upper what it counts from.
enum PointerFormat : std::uint8_t {
  kAbsolute = 0x00,
  kUleb = 0x01,
  kU16 = 0x02,
  kU32 = 0x03,
  kU64 = 0x04,
  kSleb = 0x09,
  kS16 = 0x0a,
  kS32 = 0x0b,
  kS64 = 0x0c,
};
enum PointerBase : std::uint8_t {
  kFromNothing = 0x00,
  kFromItself = 0x10,
  kFromData = 0x30,
  kFromFunction = 0x40,
  kAligned = 0x50,
};
constexpr std::uint8_t kFormatMask = 0x0f;
constexpr std::uint8_t kBaseMask = 0x70;
constexpr std::uint8_t kIndirect = 0x80;

}  // namespace

bool CfiMemory::load_by_kernel(std::uintptr_t at, void* to, std::size_t bytes) noexcept {
  if (at < buffered_ || at - buffered_ > buffered_bytes_ || bytes > buffered_bytes_ - (at - buffered_)) {
    const std::size_t left = end_ - at;
    const std::size_t want = left < sizeof(buffer_) ? left : sizeof(buffer_);
    buffered_ = at;
    buffered_bytes_ = static_cast<std::uint32_t>(sys::read_memory(at, buffer_, want));
    if (buffered_bytes_ < bytes) return false;
  }
  std::memcpy(to, buffer_ + (at - buffered_), bytes);
  return true;
}

void CfiCursor::skip(std::uint64_t bytes) noexcept {
  if (!ok_ || bytes > end_ - at_) {
    ok_ = false;
    return;
  }
  at_ += bytes;
}

void CfiCursor::jump(std::int64_t delta, std::uintptr_t block_begin) noexcept {
  const std::uintptr_t to = at_ + static_cast<std::uintptr_t>(delta);
  if (to < block_begin || to > end_) ok_ = false;
  if (ok_) at_ = to;
}

std::uint64_t CfiCursor::uleb() noexcept {
  std::uint64_t value = 0;
  unsigned shift = 0;
  for (unsigned i = 0; i < kMaxLebBytes; ++i) {
    const std::uint8_t byte = u8();
    if (shift <= kLastShift) value |= std::uint64_t{byte & 0x7fU} << shift;
    shift += 7;
    if ((byte & 0x80U) == 0) return value;
  }
  ok_ = false;
  return 0;
}

std::int64_t CfiCursor::sleb() noexcept {
  std::uint64_t value = 0;
  unsigned shift = 0;
  for (unsigned i = 0; i < kMaxLebBytes; ++i) {
    const std::uint8_t byte = u8();
    if (shift <= kLastShift) value |= std::uint64_t{byte & 0x7fU} << shift;
    shift += 7;
    if ((byte & 0x80U) != 0) continue;
    if ((byte & 0x40U) != 0 && shift <= kLastShift) value |= ~std::uint64_t{0} << shift;
    return static_cast<std::int64_t>(value);
  }
  ok_ = false;
  return 0;
}

std::uint64_t CfiCursor::pointer_number(std::uint8_t encoding) noexcept {
  switch (encoding & kFormatMask) {
    case kAbsolute:
    case kU64:
    case kS64:
      return take<std::uint64_t>();
    case kUleb:
      return uleb();
    case kSleb:
      return static_cast<std::uint64_t>(sleb());
    case kU16:
      return take<std::uint16_t>();
    case kU32:
      return take<std::uint32_t>();
    case kS16:
      return static_cast<std::uint64_t>(static_cast<std::int64_t>(take<std::int16_t>()));
    case kS32:
      return static_cast<std::uint64_t>(static_cast<std::int64_t>(take<std::int32_t>()));
    default:
      ok_ = false;
      return 0;
  }
}

std::uintptr_t CfiCursor::pointer(std::uint8_t encoding, const CfiBases& bases) noexcept {
  if ((encoding & kIndirect) != 0) {
    ok_ = false;
    return 0;
  }
  const std::uintptr_t itself = at_;
  if ((encoding & kBaseMask) == kAligned) {
    const std::uintptr_t past = at_ % sizeof(std::uintptr_t);
    if (past != 0) skip(sizeof(std::uintptr_t) - past);
    return take<std::uintptr_t>();
  }
  const std::uint64_t number = pointer_number(encoding);
  switch (encoding & kBaseMask) {
    case kFromNothing:
      return number;
    case kFromItself:
      return itself + number;
    case kFromData:
      return bases.data + number;
    case kFromFunction:
      return bases.function + number;
    default:
      ok_ = false;
      return 0;
  }
}

void CfiCursor::skip_pointer(std::uint8_t encoding) noexcept {
  if (encoding == kPointerOmitted) return;
  if ((encoding & kBaseMask) == kAligned) {
    pointer(encoding & static_cast<std::uint8_t>(~kIndirect), {});
    return;
  }
  pointer_number(encoding);
}

}  // namespace profagent::safe
