#include "agent/service/own_memory.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "agent/safe/sys.h"

namespace profagent::service::own_memory {

namespace {

namespace sys = safe::sys;

constexpr std::size_t kSpanSize = 64 << 10;
constexpr std::size_t kMaxSpans = 4096;  // 256 MiB
constexpr std::size_t kMinSpans = 256;
// The range becomes writable in steps of this, so that it stays two mappings.
constexpr std::size_t kGrowSpans = 16;
// Empty spans that are kept, so that a block that comes and goes does not cost a system call each time.
constexpr std::size_t kSpareSpans = 4;
constexpr std::size_t kMinAlignment = 16;
constexpr std::size_t kSpanHeader = 64;
constexpr std::size_t kSpanRoom = kSpanSize - kSpanHeader;

constexpr std::size_t round_down(std::size_t value, std::size_t unit) {
  return value / unit * unit;
}
constexpr std::size_t round_up(std::size_t value, std::size_t unit) {
  return round_down(value + unit - 1, unit);
}

// 16 to 128 in steps of 16, then four sizes per doubling, then whole fractions of a span.
constexpr std::array<std::uint16_t, 37> kClasses = [] {
  std::array<std::uint16_t, 37> sizes = {};
  std::size_t count = 0;
  for (std::size_t size = 16; size <= 128; size += 16) sizes[count++] = static_cast<std::uint16_t>(size);
  for (std::size_t base = 128; base < 8192; base *= 2) {
    for (std::size_t quarter = 1; quarter <= 4; ++quarter) {
      sizes[count++] = static_cast<std::uint16_t>(base + base / 4 * quarter);
    }
  }
  for (const std::size_t parts : {6, 5, 4, 3, 2}) {
    sizes[count++] = static_cast<std::uint16_t>(round_down(kSpanRoom / parts, kMinAlignment));
  }
  return sizes;
}();
constexpr std::size_t kLargestClass = kClasses.back();
static_assert(kClasses[36] > kClasses[35] && kClasses[32] > kClasses[31],
              "every class is filled in, in order");

struct FreeBlock {
  FreeBlock* next;
};

// At the start of every small span.
struct Span {
  Span* next;  // in the list of spans of the class that have room
  Span* previous;
  FreeBlock* free;
  std::uint32_t used;    // blocks handed out
  std::uint32_t fresh;   // blocks never handed out begin here: their pages are not touched before
  std::uint32_t blocks;  // that fit
  std::uint16_t size_class;
  bool has_room;  // is in the list
};
static_assert(sizeof(Span) <= kSpanHeader);

enum Kind : std::uint16_t {
  kFree = 0,
  kSmall,
  kLarge,
  kLargeTail,
  kAbandoned,  // of a time before a fork that we cannot look into
};

// What a span is, kept apart from it: a large run has no header to spare a page for.
struct Slot {
  Kind kind = kFree;
  std::uint16_t length = 0;  // kLarge: in spans
  bool is_dirty = false;     // has pages
};

class Lock {
 public:
  void lock() noexcept {
    for (int spins = 0; held_.exchange(true, std::memory_order_acquire); ++spins) {
      if (spins > 100) sys::call(SYS_sched_yield);
    }
  }
  void unlock() noexcept { held_.store(false, std::memory_order_release); }
  [[nodiscard]] bool is_held() const noexcept { return held_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> held_{false};
};

class Guard {
 public:
  explicit Guard(Lock& lock) noexcept : lock_(lock) { lock_.lock(); }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;
  ~Guard() { lock_.unlock(); }

 private:
  Lock& lock_;
};

class Pool {
 public:
  bool open() noexcept { return reserve(); }
  [[nodiscard]] bool is_open() const noexcept { return base_ != nullptr; }

  void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
    if (!reserve()) return fail();
    if (alignment <= kMinAlignment && bytes <= kLargestClass) return allocate_small(bytes);
    return allocate_large(bytes, alignment);
  }

  void release(void* block) noexcept {
    const std::size_t index = span_of(block);
    if (slots_[index].kind == kSmall) {
      release_small(index, block);
    } else if (slots_[index].kind == kLarge) {
      in_use_ -= slots_[index].length * kSpanSize;
      free_spans(index, slots_[index].length);
    }
  }

  [[nodiscard]] std::size_t usable_size(const void* block) const noexcept {
    const std::size_t index = span_of(block);
    if (slots_[index].kind == kSmall) return kClasses[header(index)->size_class];
    if (slots_[index].kind != kLarge) return 0;
    return static_cast<std::size_t>(base_ + (index + slots_[index].length) * kSpanSize -
                                    static_cast<const char*>(block));
  }

  [[nodiscard]] bool owns(const void* block) const noexcept {
    const char* begin = base_;
    return begin != nullptr && block >= begin && block < begin + spans_ * kSpanSize;
  }

  void trim() noexcept {
    for (std::size_t i = 0; i < writable_; ++i) {
      if (slots_[i].kind == kFree && slots_[i].is_dirty) give_back(i, 1);
    }
    spare_ = 0;
  }

  // The lists may be half changed, so they are not followed. A slot is right at any moment: it says kFree
  // only when no block that anybody has lies in its span.
  void abandon_all() noexcept {
    with_room_ = {};
    first_free_ = spare_ = held_ = in_use_ = 0;
    for (std::size_t i = 0; i < writable_; ++i) {
      const bool is_free = slots_[i].kind == kFree;
      slots_[i] = {is_free ? kFree : kAbandoned, 0, true};
      spare_ += is_free ? 1 : 0;
      held_ += kSpanSize;
    }
  }

  [[nodiscard]] Stats stats() const noexcept {
    return {spans_ * kSpanSize, held_, in_use_, peak_held_, failures_};
  }

 private:
  void* fail() noexcept {
    ++failures_;
    return nullptr;
  }

  [[nodiscard]] char* address(std::size_t index) const noexcept { return base_ + index * kSpanSize; }
  [[nodiscard]] Span* header(std::size_t index) const noexcept {
    return reinterpret_cast<Span*>(address(index));
  }
  [[nodiscard]] std::size_t span_of(const void* block) const noexcept {
    return static_cast<std::size_t>(static_cast<const char*>(block) - base_) / kSpanSize;
  }

  // Without access rights it costs nothing: not under strict overcommit, nor under mlockall(MCL_FUTURE). A
  // limit on address space (ulimit -v) may leave room for a smaller one only.
  bool reserve() noexcept {
    if (base_ != nullptr) return true;
    for (std::size_t spans = kMaxSpans; spans >= kMinSpans; spans /= 4) {
      const long mapped = sys::call(SYS_mmap, 0, static_cast<long>((spans + 1) * kSpanSize), PROT_NONE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (mapped < 0 && mapped > -4096) continue;
      const long length = static_cast<long>((spans + 1) * kSpanSize);
      sys::call(SYS_munlock, mapped, length);
      sys::call(SYS_madvise, mapped, length, MADV_DONTDUMP);
      sys::call(SYS_madvise, mapped, length, MADV_NOHUGEPAGE);
      static constexpr char kName[] = "profagent";
      sys::call(SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, mapped, length, reinterpret_cast<long>(kName));
      base_ = reinterpret_cast<char*>(round_up(static_cast<std::size_t>(mapped), kSpanSize));
      spans_ = spans;
      return true;
    }
    return false;
  }

  bool make_writable(std::size_t wanted) noexcept {
    const std::size_t target = std::min(round_up(wanted, kGrowSpans), spans_);
    if (target < wanted) return false;
    const auto length = static_cast<long>((target - writable_) * kSpanSize);
    if (sys::call(SYS_mprotect, reinterpret_cast<long>(address(writable_)), length, PROT_READ | PROT_WRITE) <
        0) {
      return false;
    }
    writable_ = target;
    return true;
  }

  // First fit keeps what is in use low, so that the rest stays untouched. kMaxSpans when there is no room.
  std::size_t take_spans(std::size_t count) noexcept {
    std::size_t run = 0;
    for (std::size_t i = first_free_; i < spans_; ++i) {
      run = slots_[i].kind == kFree ? run + 1 : 0;
      if (run < count) continue;
      if (i >= writable_ && !make_writable(i + 1)) return kMaxSpans;
      const std::size_t begin = i + 1 - count;
      for (std::size_t taken = begin; taken <= i; ++taken) {
        if (slots_[taken].is_dirty) --spare_;
        if (!slots_[taken].is_dirty) held_ += kSpanSize;
        slots_[taken] = {kLargeTail, 0, true};
      }
      if (begin == first_free_) first_free_ = i + 1;
      peak_held_ = std::max(peak_held_, held_);
      return begin;
    }
    return kMaxSpans;
  }

  void give_back(std::size_t index, std::size_t count) noexcept {
    sys::call(SYS_madvise, reinterpret_cast<long>(address(index)), static_cast<long>(count * kSpanSize),
              MADV_DONTNEED);
    for (std::size_t i = index; i < index + count; ++i) slots_[i].is_dirty = false;
    held_ -= count * kSpanSize;
  }

  void free_spans(std::size_t index, std::size_t count) noexcept {
    for (std::size_t i = index; i < index + count; ++i) slots_[i].kind = kFree;
    first_free_ = std::min(first_free_, index);
    if (count == 1 && spare_ < kSpareSpans) {
      ++spare_;
    } else {
      give_back(index, count);
    }
  }

  void* allocate_large(std::size_t bytes, std::size_t alignment) noexcept {
    if (bytes > kMaxSpans * kSpanSize || alignment > kSpanSize / 2) return fail();
    // Spans are aligned to their size, so no alignment needs more than the start.
    const std::size_t count = std::max<std::size_t>(round_up(bytes, kSpanSize) / kSpanSize, 1);
    const std::size_t index = take_spans(count);
    if (index == kMaxSpans) return fail();
    slots_[index].kind = kLarge;
    slots_[index].length = static_cast<std::uint16_t>(count);
    in_use_ += count * kSpanSize;
    return address(index);
  }

  void* allocate_small(std::size_t bytes) noexcept {
    const auto* found = std::lower_bound(kClasses.begin(), kClasses.end(), bytes);
    const auto size_class = static_cast<std::size_t>(found - kClasses.begin());
    Span* span = with_room_[size_class];
    if (span == nullptr) span = add_span(size_class);
    if (span == nullptr) return fail();

    const std::size_t size = kClasses[size_class];
    void* block = span->free;
    if (block != nullptr) {
      span->free = span->free->next;
    } else {
      block = reinterpret_cast<char*>(span) + kSpanHeader + span->fresh * size;
      ++span->fresh;
    }
    if (++span->used == span->blocks) unlink(span);
    in_use_ += size;
    return block;
  }

  Span* add_span(std::size_t size_class) noexcept {
    const std::size_t index = take_spans(1);
    if (index == kMaxSpans) return nullptr;
    slots_[index].kind = kSmall;
    Span* span = header(index);
    *span = {};
    span->size_class = static_cast<std::uint16_t>(size_class);
    span->blocks = static_cast<std::uint32_t>(kSpanRoom / kClasses[size_class]);
    link(span);
    return span;
  }

  void release_small(std::size_t index, void* block) noexcept {
    Span* span = header(index);
    in_use_ -= kClasses[span->size_class];
    auto* freed = static_cast<FreeBlock*>(block);
    freed->next = span->free;
    span->free = freed;
    if (!span->has_room) link(span);
    if (--span->used > 0) return;
    unlink(span);
    free_spans(index, 1);
  }

  void link(Span* span) noexcept {
    Span*& first = with_room_[span->size_class];
    span->previous = nullptr;
    span->next = first;
    if (first != nullptr) first->previous = span;
    first = span;
    span->has_room = true;
  }

  void unlink(Span* span) noexcept {
    if (span->next != nullptr) span->next->previous = span->previous;
    (span->previous != nullptr ? span->previous->next : with_room_[span->size_class]) = span->next;
    span->has_room = false;
  }

  char* base_ = nullptr;
  std::size_t spans_ = 0;       // in the range
  std::size_t writable_ = 0;    // of these, from the start
  std::size_t first_free_ = 0;  // nothing below is free
  std::size_t spare_ = 0;       // free and dirty
  std::size_t held_ = 0, in_use_ = 0, peak_held_ = 0, failures_ = 0;
  std::array<Span*, kClasses.size()> with_room_ = {};
  std::array<Slot, kMaxSpans> slots_ = {};
};

constinit Lock lock;
constinit Pool pool;

}  // namespace

bool open() noexcept {
  const Guard guard(lock);
  return pool.open();
}

bool is_open() noexcept {
  const Guard guard(lock);
  return pool.is_open();
}

void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
  const Guard guard(lock);
  return pool.allocate(bytes, alignment);
}

void release(void* block) noexcept {
  if (block == nullptr) return;
  const Guard guard(lock);
  pool.release(block);
}

void* resize(void* block, std::size_t bytes) noexcept {
  if (block == nullptr) return allocate(bytes);
  const std::size_t room = usable_size(block);
  // In place also when it shrinks a little: no copy, and no span changes hands.
  if (bytes <= room && bytes >= room / 2) return block;
  void* moved = allocate(bytes);
  if (moved == nullptr) return nullptr;
  std::memcpy(moved, block, std::min(room, bytes));
  release(block);
  return moved;
}

bool owns(const void* block) noexcept {
  return pool.owns(block);
}

std::size_t usable_size(const void* block) noexcept {
  const Guard guard(lock);
  return pool.usable_size(block);
}

void trim() noexcept {
  const Guard guard(lock);
  pool.trim();
}

Stats stats() noexcept {
  const Guard guard(lock);
  return pool.stats();
}

void reset_after_fork() noexcept {
  if (!lock.is_held()) return;
  pool.abandon_all();
  lock.unlock();
}

}  // namespace profagent::service::own_memory
