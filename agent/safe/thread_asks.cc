#include "agent/safe/thread_asks.h"

#include <csignal>
#include <ctime>
#include <type_traits>

#include "agent/safe/cpu_timers.h"
#include "agent/safe/events.h"
#include "agent/safe/lazy.h"
#include "agent/safe/record_stack.h"
#include "agent/safe/signal_stack.h"
#include "agent/safe/sys.h"
#include "agent/safe/thread_pointer.h"
#include "agent/safe/threads.h"

namespace profagent::safe {

constinit ThreadAsks thread_asks;
static_assert(std::is_trivially_destructible_v<ThreadAsks>);

namespace {

enum Phase : std::uint64_t { kFree, kAsked, kAnswering, kAnswered };
constexpr std::uint64_t kPhaseMask = 3;
constexpr std::uint64_t kNextGeneration = kPhaseMask + 1;

constexpr std::uint64_t phase_of(std::uint64_t state) noexcept {
  return state & kPhaseMask;
}
constexpr std::uint64_t with_phase(std::uint64_t state, Phase phase) noexcept {
  return (state & ~kPhaseMask) | phase;
}

// Of the value that comes with a signal: that it is ours, which generation, which place. A state's upper bits
// go lost, after 2^38 questions.
constexpr std::uint64_t kCookie = 0x7468;
constexpr unsigned kCookieShift = 48;
constexpr unsigned kPlaceBits = 8;
constexpr std::uint64_t kStateMask = (std::uint64_t{1} << (kCookieShift - kPlaceBits)) - 1;
static_assert(ThreadAsks::kPlaces <= std::size_t{1} << kPlaceBits);

constexpr std::uint64_t value_of(std::uint64_t state, std::size_t place) noexcept {
  return kCookie << kCookieShift | (state & kStateMask) << kPlaceBits | place;
}

void delete_timer(AskPlace& place) noexcept {
  if (const std::int32_t timer = place.timer.exchange(0, std::memory_order_seq_cst); timer != 0)
    sys::call(SYS_timer_delete, timer - 1);
}

struct Answer {
  AskPlace& place;
  const ucontext_t& context;
};

void take_stack(void* argument) noexcept {
  const Answer& answer = *static_cast<Answer*>(argument);
  answer.place.stack = capture_stack(frame_of(answer.context), {answer.place.pcs, recorded_depth()});
}

}  // namespace

bool ThreadAsks::prepare() noexcept {
  process_.store(sys::getpid(), std::memory_order_relaxed);
  return lazy_array(places_, kPlaces) != nullptr && prepare_signal_stacks();
}

ThreadAsks::Ask ThreadAsks::ask(pid_t tid, int signal, std::uint32_t marks) noexcept {
  AskPlace* all = places_.load(std::memory_order_acquire);
  for (std::size_t i = 0; all != nullptr && i < kPlaces; ++i) {
    AskPlace& place = all[i];
    const std::uint64_t before = place.state.load(std::memory_order_acquire);
    const bool is_over = place.was_given_up && phase_of(before) == kAnswered;
    if (phase_of(before) != kFree && !is_over) continue;
    place.was_given_up = false;
    const std::uint64_t asked = with_phase(before + kNextGeneration, kAsked);
    // Release pairs with the acquire in on_signal(): what was left here before is no answer to this one.
    place.state.store(asked, std::memory_order_release);
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = signal;
    event.sigev_value.sival_ptr = reinterpret_cast<void*>(value_of(asked, i));
    event._sigev_un._tid = tid;
    int id = 0;
    const Ask ask{&place, asked};
    if (sys::call(SYS_timer_create, cpu_clock_of(tid), reinterpret_cast<long>(&event),
                  reinterpret_cast<long>(&id)) != 0) {
      give_up(ask);
      return {};
    }
    // Sequentially consistent, as the loads and stores of leave_signal(), leave_alone() and their callers:
    // either we see that the signal is left, or a thread marked, or the timer is seen, and deleted before or
    // after it is set.
    place.tid.store(tid, std::memory_order_seq_cst);
    place.timer.store(id + 1, std::memory_order_seq_cst);
    itimerspec soon{};
    soon.it_value.tv_nsec = 1;  // of CPU time: at the next tick
    if (events.wake_signal.load(std::memory_order_seq_cst) == signal && threads.marks() == marks &&
        sys::call(SYS_timer_settime, id, 0, reinterpret_cast<long>(&soon), 0) == 0) {
      return ask;
    }
    give_up(ask);
    return {};
  }
  return {};
}

const AskPlace* ThreadAsks::answer(const Ask& ask) noexcept {
  // Acquire pairs with the release in on_signal(): the stack is complete.
  const std::uint64_t state = ask.place->state.load(std::memory_order_acquire);
  return state == with_phase(ask.state, kAnswered) ? ask.place : nullptr;
}

void ThreadAsks::give_up(const Ask& ask) noexcept {
  delete_timer(*ask.place);
  const std::uint64_t next = with_phase(ask.state + kNextGeneration, kFree);
  std::uint64_t state = ask.state;
  // Release pairs with the acquire of the one who takes the place next.
  if (ask.place->state.compare_exchange_strong(state, next, std::memory_order_acq_rel)) return;
  if (phase_of(state) == kAnswered) {
    ask.place->state.store(next, std::memory_order_release);
  } else {
    ask.place->was_given_up = true;
  }
}

bool ThreadAsks::on_signal(const siginfo_t& info, const ucontext_t& context) noexcept {
  if (info.si_code != SI_TIMER) return false;
  const auto value = reinterpret_cast<std::uint64_t>(info.si_value.sival_ptr);
  AskPlace* all = places_.load(std::memory_order_acquire);
  const std::size_t index = value & ((std::size_t{1} << kPlaceBits) - 1);
  if (value >> kCookieShift != kCookie || index >= kPlaces || all == nullptr) return false;
  AskPlace& place = all[index];
  // Acquire pairs with the release in ask().
  std::uint64_t state = place.state.load(std::memory_order_acquire);
  if (phase_of(state) != kAsked || value_of(state, index) != value || !has_thread_pointer()) return true;
  if (!place.state.compare_exchange_strong(state, with_phase(state, kAnswering), std::memory_order_acquire))
    return true;
  Answer answer{place, context};
  place.stack = {};
  static_cast<void>(run_on_signal_stack(take_stack, &answer));
  // Release pairs with the acquire in answer().
  place.state.store(with_phase(state, kAnswered), std::memory_order_release);
  return true;
}

void ThreadAsks::leave_signal() noexcept {
  // A vfork child has our memory, but no timers.
  if (process_.load(std::memory_order_relaxed) != sys::getpid()) return;
  AskPlace* all = places_.load(std::memory_order_acquire);
  for (std::size_t i = 0; all != nullptr && i < kPlaces; ++i) delete_timer(all[i]);
}

void ThreadAsks::leave_alone(pid_t tid) noexcept {
  AskPlace* all = places_.load(std::memory_order_acquire);
  for (std::size_t i = 0; all != nullptr && i < kPlaces; ++i)
    if (all[i].tid.load(std::memory_order_seq_cst) == tid) delete_timer(all[i]);
}

void ThreadAsks::forget_after_fork() noexcept {
  process_.store(sys::getpid(), std::memory_order_relaxed);
  AskPlace* all = places_.load(std::memory_order_acquire);
  for (std::size_t i = 0; all != nullptr && i < kPlaces; ++i) {
    const std::uint64_t state = all[i].state.load(std::memory_order_relaxed);
    all[i].timer.store(0, std::memory_order_relaxed);
    all[i].was_given_up = false;
    all[i].state.store(with_phase(state + kNextGeneration, kFree), std::memory_order_relaxed);
  }
}

}  // namespace profagent::safe
