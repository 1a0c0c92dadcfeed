#include "agent/safe/unwind_window.h"

#include "agent/safe/sys.h"

namespace profagent::safe {

namespace {

constexpr std::uintptr_t kPage = 4096;
constexpr unsigned kPageShift = 12;
// A frame larger than this starts a new window instead of proving every page between.
constexpr std::uintptr_t kMaxRun = 16 * kPage;

// First page in the upper bits, number of pages in the lower: one word, so that a signal handler on another
// stack, which walks and saves between our load and store, leaves a true statement in any case.
constexpr unsigned kCountBits = 28;
constexpr std::uintptr_t kCountMask = (std::uintptr_t{1} << kCountBits) - 1;
constinit thread_local std::uint64_t known_pages [[gnu::tls_model("initial-exec")]] = 0;

constexpr std::uintptr_t page_of(std::uintptr_t address) noexcept { return address & ~(kPage - 1); }
// Never the first page: for the kernel call of the probe, address 0 is no address.
constexpr bool is_user_space(std::uintptr_t address) noexcept {
  return address >= kPage && address < (std::uintptr_t{1} << 47U) - kPage;
}

}  // namespace

bool StackWindow::probe(std::uintptr_t page) noexcept {
  if (probes_left_ == 0 || !is_user_space(page)) return false;
  --probes_left_;
  return sys::is_readable(page);
}

bool StackWindow::enter(std::uintptr_t sp) noexcept {
  const std::uintptr_t page = page_of(sp);
  if (trusting_ && begin_ == end_) {
    const std::uint64_t known = *const_cast<const volatile std::uint64_t*>(&known_pages);
    begin_ = (known >> kCountBits) << kPageShift;
    end_ = begin_ + ((known & kCountMask) << kPageShift);
  }
  if (sp >= begin_ && sp < end_) return true;
  if (!probe(page)) return false;
  if (page < begin_ && begin_ - page <= kMaxRun) {
    // The stack grew deeper than it was in any walk before: prove what lies between, from below.
    std::uintptr_t proved = page + kPage;
    while (proved < begin_ && probe(proved)) proved += kPage;
    if (proved < begin_) end_ = proved;
    begin_ = page;
    return true;
  }
  begin_ = page;
  end_ = page + kPage;
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
  if (!trusting_) return;
  const std::uintptr_t pages = (end_ - begin_) >> kPageShift;
  *const_cast<volatile std::uint64_t*>(&known_pages) =
      ((begin_ >> kPageShift) << kCountBits) | (pages < kCountMask ? pages : kCountMask);
}

bool StackWindow::read_word(std::uintptr_t at, std::uintptr_t& word) noexcept {
  if (at >= begin_ && at < end_ && end_ - at >= sizeof word) {
    word = *reinterpret_cast<const std::uintptr_t*>(at);
    return true;
  }
  return is_user_space(at) && sys::read_memory(at, &word, sizeof word) == sizeof word;
}

}  // namespace profagent::safe
