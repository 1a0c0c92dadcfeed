#include "agent/service/wall_sampler.h"

#include <algorithm>
#include <ctime>
#include <optional>
#include <utility>

#include "agent/safe/clock.h"
#include "agent/safe/cpu_timers.h"
#include "agent/safe/random.h"
#include "agent/safe/sys.h"
#include "agent/service/text_parts.h"
#include "agent/service/thread_list.h"

namespace profagent::service {

namespace {

using safe::ThreadAsks;

constexpr std::int64_t kMillisecond = 1'000'000;
// Nothing waits for an answer. As long as the thread is found running, the answer may come when it is next
// given a processor; once it has waited in between, it may be from elsewhere.
constexpr std::int64_t kPatience = 100 * kMillisecond;
constexpr std::int64_t kPatienceAfterWait = 20 * kMillisecond;
constexpr std::string_view kNotKnown = "[unknown]";
// A wake-up of our thread, with what the server does around it.
constexpr std::int64_t kWakeUp = 20'000;
// Between two readings of our own CPU clock, which cost as much as the looks at threads that stand still.
constexpr int kLooksPerReading = 16;
// At most so long at a time at new threads: what others notice of it.
constexpr std::int64_t kSlice = 5 * kMillisecond;

// Where the one who was asked has run; nothing as long as there is no answer.
std::optional<WallPlace> answer_of(const ThreadAsks::Ask& ask) {
  const safe::AskPlace* answer = ThreadAsks::answer(ask);
  if (answer == nullptr) return std::nullopt;
  if (answer->stack.depth == 0) return WallPlace{kRunningState, kNoAnswer, {}};
  return WallPlace{kRunningState, {}, {answer->pcs, answer->pcs + answer->stack.depth}};
}

std::int64_t own_cpu() {
  return safe::now_by(CLOCK_THREAD_CPUTIME_ID);
}

template <typename Value>
void shuffle(std::vector<Value>& values, std::uint64_t& random) {
  for (std::size_t i = values.size(); i > 1; --i)
    std::swap(values[i - 1], values[safe::next_random(random) % i]);
}

}  // namespace

WallSampler::WallSampler(std::function<int()> asking_signal, std::int64_t filters_at_load)
    : asking_(std::move(asking_signal), filters_at_load) {}

WallSampler::~WallSampler() {
  stop();
}

void WallSampler::start(std::int64_t now) {
  pace_.begin(now);
  listed_at_ = now;
  list();
  begin_round();
}

void WallSampler::stop() {
  for (auto& [tid, thread] : threads_)
    if (thread.ask.place != nullptr) ThreadAsks::give_up(thread.ask);
  threads_.clear();
  round_.clear();
  asked_.clear();
  newborn_.clear();
}

double WallSampler::tend() {
  pace_.spend(kWakeUp);
  if (const std::int64_t late = safe::monotonic_now() - next_tick_; late >= 0 || !newborn_.empty()) {
    for (Window* window : windows_) window->note_late(late);
    if (newborn_.empty()) {
      tick();
    } else {
      look_at_newborn();
    }
    set_next_tick();
  }
  // Not 0, which means "not again".
  return safe::to_seconds(std::max<std::int64_t>(next_tick_ - safe::monotonic_now(), 1));
}

// New threads are looked at as soon as others have been served.
void WallSampler::set_next_tick() {
  const std::int64_t now = safe::monotonic_now();
  next_tick_ = newborn_.empty() ? pace_.next(now, period()) : now;
}

void WallSampler::tick() {
  pace_.earn(safe::monotonic_now());
  std::int64_t cpu = own_cpu();
  const auto pay = [&] {
    const std::int64_t now = own_cpu();
    pace_.spend(now - std::exchange(cpu, now));
  };
  collect_answers();
  if (round_.empty() && pace_.may_look()) {
    list();
    cpu = own_cpu();  // list() has paid for itself
    begin_round();
  }
  for (int unpaid = 0; !round_.empty() && pace_.may_look();) {
    const auto thread = threads_.find(round_.back());
    round_.pop_back();
    const bool was_cheap = thread == threads_.end() || !look_at(thread->second);
    if (was_cheap && ++unpaid < kLooksPerReading) continue;
    pay();
    unpaid = 0;
  }
  pay();
}

void WallSampler::list() {
  const std::int64_t began = own_cpu();
  const std::int64_t now = safe::monotonic_now();
  // Who has come or gone since the last list has done so in the middle of that time, on the average.
  const std::int64_t between = threads_.empty() ? listed_at_ : listed_at_ + (now - listed_at_) / 2;
  listed_at_ = now;
  for (auto& [tid, thread] : threads_) thread.was_listed = false;
  const std::size_t known_newborn = newborn_.size();
  const pid_t own = safe::sys::gettid();
  for (const pid_t tid : list_threads()) {
    if (tid == own) continue;
    const auto known = threads_.find(tid);
    if (known == threads_.end()) {
      newborn_.push_back(tid);
    } else {
      known->second.was_listed = true;
    }
  }
  for (auto& [tid, thread] : threads_)
    if (!thread.was_listed) end_thread(thread, between);
  std::erase_if(threads_, [](const auto& entry) { return !entry.second.was_listed; });
  if (newborn_.size() > known_newborn || wants_slots_) {
    looker_.find_slots();
    wants_slots_ = false;
  }
  for (std::size_t i = known_newborn; i < newborn_.size(); ++i)
    threads_.emplace(newborn_[i], newborn(newborn_[i], between)).first->second.is_new = true;
  pace_.spend(own_cpu() - began);
}

// Without the new ones, which are looked at before that.
void WallSampler::begin_round() {
  round_.clear();
  for (const auto& [tid, thread] : threads_)
    if (!thread.is_new) round_.push_back(tid);
  shuffle(round_, pace_.random());
  for (Window* window : windows_) ++window->result_.rounds;
}

bool WallSampler::look_at_newborn() {
  const std::int64_t before = own_cpu();
  const std::int64_t end = safe::monotonic_now() + kSlice;
  while (!newborn_.empty() && safe::monotonic_now() < end) {
    const auto thread = threads_.find(newborn_.back());
    newborn_.pop_back();
    if (thread != threads_.end() && std::exchange(thread->second.is_new, false)) look_at(thread->second);
  }
  pace_.owe(own_cpu() - before);
  return !newborn_.empty();
}

WallSampler::Thread WallSampler::newborn(pid_t tid, std::int64_t born) {
  Thread thread;
  thread.tid = tid;
  thread.born = born;
  thread.charged_until = born;
  thread.place = {kUnknownState, kNotKnown, {}};
  return thread;
}

bool WallSampler::stands_still(const Thread& thread, std::uint64_t cpu) const {
  return thread.cpu == cpu && thread.looked_at != 0 && (thread.had_slot || !looker_.has_slot(thread.tid));
}

bool WallSampler::look_at(Thread& thread) {
  std::uint64_t cpu = 0;
  // When it has ended, the next list tells when.
  if (!safe::read_cpu_clock(safe::cpu_clock_of(thread.tid), cpu)) return false;
  if (stands_still(thread, cpu)) {
    thread.looked_at = safe::monotonic_now();
    ++thread.looks;
    return false;
  }
  if (cpu < thread.cpu) {
    // A CPU clock does not go back: the id has been given to another thread.
    const std::int64_t now = safe::monotonic_now();
    const std::int64_t between = thread.looked_at + (now - thread.looked_at) / 2;
    end_thread(thread, between);
    thread = newborn(thread.tid, std::max(between, thread.charged_until));
  }
  // Before the walk: what it does in between shows as having run.
  thread.cpu = cpu;
  walk(thread);
  return true;
}

void WallSampler::walk(Thread& thread) {
  ThreadRow row;
  row.tid = thread.tid;
  StackPool stacks;
  const ThreadLooker::Look look = looker_.look_at(row, stacks);
  if (look == ThreadLooker::Look::kGone) return;
  const std::int64_t now = safe::monotonic_now();
  refresh_name(thread, now);
  // One that has entered its first hook since the list is not known by its slot yet.
  thread.had_slot = looker_.has_slot(thread.tid);
  wants_slots_ = wants_slots_ || !thread.had_slot;
  const bool is_running = look == ThreadLooker::Look::kRunning;
  const bool goes_on = is_running && thread.is_open;
  if (!goes_on && thread.looked_at != 0) stay_until(thread, thread.looked_at + (now - thread.looked_at) / 2);
  thread.looked_at = now;
  ++thread.looks;
  if (goes_on) return;
  thread.is_open = false;
  thread.place = {row.state, row.obstacle, {}};
  if (!is_running) {
    const auto pcs = stacks[row.stack];
    thread.place.pcs.assign(pcs.begin(), pcs.end());
    return;
  }
  if (thread.place.state.empty()) thread.place.state = kRunningState;
  ask(thread);
}

void WallSampler::ask(Thread& thread) {
  if (thread.ask.place == nullptr) {
    const auto begun = asking_.begin(thread.tid);
    if (!begun.obstacle.empty()) {
      thread.place.obstacle = thread.place.state == kUnknownState ? kNotKnown : begun.obstacle;
      return;
    }
    thread.ask = begun.ask;
    thread.asked_at = thread.looked_at;
    asked_.push_back(thread.tid);
  }
  thread.is_open = true;
}

void WallSampler::collect_answers() {
  const std::int64_t now = asked_.empty() ? 0 : safe::monotonic_now();
  std::erase_if(asked_, [&](pid_t tid) {
    const auto found = threads_.find(tid);
    if (found == threads_.end() || found->second.ask.place == nullptr) return true;
    Thread& thread = found->second;
    std::optional<WallPlace> place = answer_of(thread.ask);
    const std::int64_t patience = thread.is_open ? kPatience : kPatienceAfterWait;
    if (!place && now - thread.asked_at < patience) return false;
    settle_answer(thread, std::move(place));
    return true;
  });
}

WallPlace WallSampler::place_without_answer(const Thread& thread) {
  const bool is_unknown = thread.is_open && thread.place.state == kUnknownState;
  return is_unknown ? WallPlace{kUnknownState, kNotKnown, {}} : WallPlace{kRunningState, kNoAnswer, {}};
}

void WallSampler::settle_answer(Thread& thread, std::optional<WallPlace> answer) {
  const WallPlace place = answer ? std::move(*answer) : place_without_answer(thread);
  ThreadAsks::give_up(std::exchange(thread.ask, {}));
  for (const Stay& stay : thread.owed) charge(thread, place, stay);
  thread.owed.clear();
  if (std::exchange(thread.is_open, false)) thread.place = place;
}

// Most threads get their name after they were seen first, and soon.
void WallSampler::refresh_name(Thread& thread, std::int64_t now) {
  const bool is_young = now - thread.born < safe::kNanosPerSecond;
  if (!is_young && thread.named_at != 0 && now - thread.named_at < safe::kNanosPerSecond) return;
  const safe::ThreadName name = read_thread_name(thread.tid);
  if (name == safe::ThreadName()) return;
  thread.name = name;
  thread.named_at = now;
}

// What is not charged yet goes to the present place, or waits for the answer with it.
void WallSampler::stay_until(Thread& thread, std::int64_t until) {
  if (until <= thread.charged_until) return;
  const Stay stay{std::exchange(thread.charged_until, until), until, std::exchange(thread.looks, 0)};
  if (thread.is_open) {
    thread.owed.push_back(stay);
  } else {
    charge(thread, thread.place, stay);
  }
}

void WallSampler::end_thread(Thread& thread, std::int64_t at) {
  stay_until(thread, std::max(at, thread.looked_at));
  if (thread.ask.place != nullptr) settle_answer(thread, answer_of(thread.ask));
}

// Its newest name goes with what is charged.
void WallSampler::settle(Thread& thread, std::int64_t until) {
  thread.named_at = 0;
  refresh_name(thread, safe::monotonic_now());
  stay_until(thread, until);
}

}  // namespace profagent::service
