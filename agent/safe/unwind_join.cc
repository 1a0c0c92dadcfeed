// The part of the walk that continues into the remembered one; walk_cache.h says why that is exact.
#include "agent/safe/unwind_fast.h"

namespace profagent::safe {

namespace {

constexpr std::uintptr_t kWord = sizeof(std::uintptr_t);

std::uintptr_t load(std::uintptr_t at) noexcept {
  return *reinterpret_cast<const std::uintptr_t*>(at);
}

}  // namespace

void FastWalk::stop_remembering() noexcept {
  cache_->forget();
  cache_ = nullptr;
  at_.record = nullptr;
  at_.next_sp = kNever;
  hash_again_ = true;
}

[[gnu::noinline]] bool FastWalk::meet() noexcept {
  if (at_.next == at_.full) return false;
  const WalkFrame* const remembered = cache_->frames();
  const std::uint32_t last = cache_->end();
  if (!joined_) {
    while (candidate_ < last && remembered[candidate_].sp < at_.sp) ++candidate_;
  }
  bool same = candidate_ < last && remembered[candidate_].sp == at_.sp && remembered[candidate_].pc == at_.pc;
  if (same) {
    cache_->prepare(candidate_);
    same = remembered[candidate_].bp == at_.bp || !remembered[candidate_].bp_matters;
  }
  // Below us is a guess when the window is distrusted: walk on then, and only notice that nothing changed.
  if (same && window_.trusting()) return take_over(candidate_);
  if (joined_) {
    if (same) {
      ++candidate_;
    } else {
      stop_remembering();
    }
    return false;
  }
  await(candidate_);
  if (at_.next_sp == at_.sp) ++at_.next_sp;
  return false;
}

// The bp of frame `to`, when that of frame `from` is at_.bp and their slots are proved.
std::uintptr_t FastWalk::bp_after(std::uint32_t from, std::uint32_t to) const noexcept {
  const WalkFrame* const remembered = cache_->frames();
  std::uintptr_t bp = at_.bp;
  for (std::uint32_t i = from; i < to; ++i) {
    const std::uint32_t distance = remembered[i].rule.bp_distance();
    if (distance != 0) bp = load(remembered[i + 1].sp - distance);
  }
  return bp;
}

// The remembered frames [from, to] belong to this walk, but what follows them changed: record them like
// walked ones.
void FastWalk::copy_taken(std::uint32_t from, std::uint32_t to) noexcept {
  const WalkFrame* const remembered = cache_->frames();
  for (std::uint32_t i = from; i <= to; ++i) {
    if (i != from) at_.bp = bp_after(i - 1, i);
    *at_.record = remembered[i];
    at_.record->bp = at_.bp;
    ++at_.record;
    at_.sum += remembered[i].pc * at_.power;
    at_.power *= kHashFactor;
  }
}

bool FastWalk::take_over(std::uint32_t index) noexcept {
  const WalkFrame* const remembered = cache_->frames();
  const WalkFrame* inner = remembered + index;
  const auto room = static_cast<std::size_t>(at_.full - at_.next - 1);
  const WalkFrame* limit = remembered + inner->run_end;
  if (static_cast<std::size_t>(limit - inner) > room) limit = inner + room;
  if (!window_.grow(limit->sp)) {
    while (limit->sp > window_.end() && limit != inner) --limit;
  }
  Pc* next = at_.next;
  *next++ = inner->pc;
  while (inner != limit) {
    const WalkFrame* const outer = inner + 1;
    if (load(outer->sp - kWord) != outer->pc + 1) break;
    if (inner->compare_saved_bp && load(outer->sp - inner->rule.bp_distance()) != outer->bp) break;
    *next++ = outer->pc;
    inner = outer;
  }
  at_.next = next;
  const auto reached = static_cast<std::uint32_t>(inner - remembered);
  if (inner != limit && !joined_) {
    copy_taken(index, reached);
    await(reached + 1);
  } else {
    // A bp that matters was compared. One that does not may matter to what follows, unless nothing does.
    const bool finished = reached == remembered[index].run_end || at_.next == at_.full;
    at_.bp = inner->bp_matters || finished ? inner->bp : bp_after(index, reached);
    if (inner != limit) {
      stop_remembering();
    } else {
      if (!joined_) joined_at_ = index;
      joined_ = true;
      candidate_ = reached + 1;
      at_.next_sp = 0;
    }
  }
  at_.pc = inner->pc;
  at_.sp = inner->sp;
  return true;
}

}  // namespace profagent::safe
