#include "agent/safe/unwind_window.h"

#include <cstring>

#include "agent/safe/sys.h"

namespace profagent::safe {

namespace {

constexpr std::uintptr_t kPage = 4096;
constexpr unsigned kPageShift = 12;
// A frame larger than this starts a new window instead of proving every page between.
constexpr std::uintptr_t kMaxRun = 16 * kPage;

// The stacks that a thread used last (its own, an alternate one, coroutines), the latest first. Each is one
// word, the first page in the upper bits, the number of pages in the lower: a signal handler that walks and
// saves between our loads and stores leaves true statements in any case.
constexpr unsigned kCountBits = 28;
constexpr std::uintptr_t kCountMask = (std::uintptr_t{1} << kCountBits) - 1;
constexpr unsigned kKnown = 4;
[[gnu::tls_model("initial-exec")]] constinit thread_local volatile std::uint64_t known_pages[kKnown] = {};

constexpr std::uintptr_t begin_of(std::uint64_t known) noexcept {
  return (known >> kCountBits) << kPageShift;
}
constexpr std::uintptr_t end_of(std::uint64_t known) noexcept {
  return begin_of(known) + ((known & kCountMask) << kPageShift);
}

constexpr std::uintptr_t page_of(std::uintptr_t address) noexcept {
  return address & ~(kPage - 1);
}
// Never the first page: for the kernel call of the probe, address 0 is no address.
constexpr bool is_user_space(std::uintptr_t address) noexcept {
  return address >= kPage && address < (std::uintptr_t{1} << 47U) - kPage;
}

}  // namespace

bool StackCopy::read_word(std::uintptr_t at, std::uintptr_t& word) noexcept {
  if (at < begin_ || at - begin_ > size_ || sizeof word > size_ - (at - begin_)) {
    if (!is_user_space(at)) return false;
    begin_ = at;
    size_ = sys::read_memory(at, bytes_, kBytes);
    if (size_ < sizeof word) return false;
  }
  std::memcpy(&word, bytes_ + (at - begin_), sizeof word);
  return true;
}

bool StackWindow::probe(std::uintptr_t page) noexcept {
  if (probes_left_ == 0 || !is_user_space(page)) return false;
  --probes_left_;
  return sys::is_readable(page);
}

bool StackWindow::enter(std::uintptr_t sp) noexcept {
  if (sp >= begin_ && sp < end_) return true;
  if (copy_ != nullptr) return is_user_space(sp);
  if (trusting_) {
    save();
    for (const volatile std::uint64_t& word : known_pages) {
      const std::uint64_t known = word;
      // A stack may have grown deeper than it was in any walk before.
      if (sp < end_of(known) && sp + kMaxRun >= begin_of(known)) return enter_known(sp, known);
    }
  }
  const std::uintptr_t page = page_of(sp);
  if (!probe(page)) return false;
  begin_ = page;
  end_ = page + kPage;
  return true;
}

bool StackWindow::enter_known(std::uintptr_t sp, std::uint64_t known) noexcept {
  const std::uintptr_t old_begin = begin_of(known);
  begin_ = page_of(sp);
  end_ = begin_;
  // Proves what lies below the known pages, from below.
  while (end_ < old_begin) {
    if (!probe(end_)) return end_ > begin_;
    end_ += kPage;
  }
  if (begin_ > old_begin) begin_ = old_begin;
  end_ = end_of(known);
  return true;
}

bool StackWindow::grow(std::uintptr_t to) noexcept {
  if (to <= end_) return true;
  if (!is_user_space(to) || to - end_ > kMaxRun) return false;
  while (end_ < to) {
    if (!probe(end_)) return false;
    end_ += kPage;
  }
  return true;
}

bool StackWindow::reach(std::uintptr_t low, std::uintptr_t to) noexcept {
  if (low > to) return false;
  if (copy_ != nullptr) return is_user_space(low) && is_user_space(to);
  if (to <= end_ || to - end_ <= kMaxRun) return grow(to) && low >= begin_;
  // Only call-frame rules are believed to jump that far.
  if (!trusting_ || !is_user_space(to) || low < begin_ || to - low > kMaxRun) return false;
  std::uintptr_t proved = page_of(low);
  while (proved < to && probe(proved)) proved += kPage;
  if (proved < to) return false;
  begin_ = page_of(low);
  end_ = proved;
  return true;
}

void StackWindow::distrust() noexcept {
  if (!trusting_) return;
  save();
  trusting_ = false;
  begin_ = end_ = 0;
}

void StackWindow::save() const noexcept {
  if (!trusting_ || begin_ == end_) return;
  const std::uintptr_t pages = (end_ - begin_) >> kPageShift;
  const std::uint64_t known =
      ((begin_ >> kPageShift) << kCountBits) | (pages < kCountMask ? pages : kCountMask);
  if (known_pages[0] == known) return;
  // To the front; what it overlaps is the same stack, and goes.
  std::uint64_t moved = known_pages[0];
  known_pages[0] = known;
  for (unsigned i = 1; i < kKnown && (begin_of(moved) > end_ || end_of(moved) < begin_); ++i) {
    const std::uint64_t next = known_pages[i];
    known_pages[i] = moved;
    moved = next;
  }
}

bool StackWindow::read_word(std::uintptr_t at, std::uintptr_t& word) noexcept {
  if (copy_ != nullptr) return copy_->read_word(at, word);
  if (at >= begin_ && at < end_ && end_ - at >= sizeof word) {
    word = *reinterpret_cast<const std::uintptr_t*>(at);
    return true;
  }
  return is_user_space(at) && sys::read_memory(at, &word, sizeof word) == sizeof word;
}

}  // namespace profagent::safe
