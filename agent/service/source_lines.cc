#include "agent/service/source_lines.h"

#include <algorithm>
#include <map>
#include <new>
#include <optional>
#include <tuple>
#include <utility>

#include "agent/safe/clock.h"
#include "agent/service/line_cache.h"
#include "agent/service/line_files.h"
#include "agent/service/line_helper.h"
#include "agent/service/line_wire.h"
#include "agent/service/own_thread.h"

namespace profagent::service {

namespace {

// One that has said nothing for so long is in an endless loop.
constexpr MonotonicNanos kStuck = 120'000'000'000;
// Once may be an accident (the kernel was out of memory).
constexpr unsigned kMaxCrashes = 2;
// Of a request: small enough that there is always something to show at the deadline.
constexpr std::size_t kBatch = 256;

}  // namespace

struct SourceLines::Impl {
  struct Wanted {
    std::size_t index;  // in the caller's list
    std::uint64_t address;
  };
  // Addresses of an image that are not known yet.
  struct Search {
    const Image* image;
    unsigned crashes;
    std::uint64_t file_size;
    std::vector<std::uint64_t> addresses;  // ascending
  };
  // The request that the helper is at work on, perhaps since an earlier find().
  struct Pending {
    ImageLines& lines;
    std::string path;
    std::vector<std::uint64_t> addresses;
    std::size_t answered = 0;
    MonotonicNanos last_answer = 0;
    bool is_late = false;  // somebody has waited in vain
  };
  enum class Reading : std::uint8_t { kDone, kNotYet, kCrashed, kNoRoom };

  explicit Impl(LineOptions given)
      : options(std::move(given)),
        rules({.library = options.helper,
               .room_root = options.room_root,
               .pause_seconds = options.pause_seconds}) {}

  LineAnswer find(const ModuleSet& modules, std::span<const std::uintptr_t> pcs, LinePatience& patience);
  double tend();
  void clear() noexcept;

  std::vector<Search> searches(const std::map<const Image*, std::vector<Wanted>>& by_image);
  std::string look_for(const ModuleSet& modules, const Search& search, MonotonicNanos deadline);
  std::string problem_of(Reading reading, const ImageLines& lines, const std::string& path);
  bool ask(const ModuleSet& modules, const LineFile& source, Pending question, MonotonicNanos deadline);
  Reading read_answers(MonotonicNanos deadline);
  Reading take(const line_wire::Answer& answer);
  Reading give_up();
  std::string late();

  LineOptions options;
  LineHelperRules rules;
  LineCache cache;
  LineHelper helper;
  std::optional<Pending> pending;
  std::uint32_t last_id = 0;
  MonotonicNanos last_use = 0;
};

LineAnswer SourceLines::Impl::find(const ModuleSet& modules, std::span<const std::uintptr_t> pcs,
                                   LinePatience& patience) {
  if (patience.until == 0) {
    patience.until = safe::monotonic_now() + safe::to_nanos(options.patience_seconds);
    // Not between the parts of one request, which ask for the same.
    if (cache.is_full() && !pending) cache.clear();
  }
  const MonotonicNanos deadline = patience.until;
  std::map<const Image*, std::vector<Wanted>> by_image;
  for (std::size_t i = 0; i < pcs.size(); ++i) {
    const Module* const module = modules.find(pcs[i]);
    const Image* const image = module == nullptr ? nullptr : modules.image_of(*module);
    const auto address = image == nullptr ? std::nullopt : modules.address_in_image(*module, pcs[i]);
    if (address) by_image[image].push_back({i, *address});
  }

  LineAnswer answer;
  // What an earlier call had no time for may be what this one asks.
  if (pending) {
    const ImageLines& lines = pending->lines;
    const std::string path = pending->path;
    answer.problem = problem_of(read_answers(pending->is_late ? 0 : deadline), lines, path);
  }
  if (answer.problem.empty()) {
    for (const Search& search : searches(by_image)) {
      answer.problem = look_for(modules, search, deadline);
      // No time left, or no helper to be had.
      if (!answer.problem.empty()) break;
    }
  }

  answer.store = cache.store();
  answer.chains.resize(pcs.size());
  for (const auto& [image, wanted] : by_image) {
    const ImageLines& lines = cache.of(identity_of(*image));
    for (const Wanted& each : wanted) {
      if (const auto known = cache.find(lines, each.address)) answer.chains[each.index] = *known;
    }
  }
  last_use = safe::monotonic_now();
  return answer;
}

// The smallest file first: the largest must not keep the others waiting. Nor must one that a helper has
// crashed with.
std::vector<SourceLines::Impl::Search> SourceLines::Impl::searches(
    const std::map<const Image*, std::vector<Wanted>>& by_image) {
  std::vector<Search> result;
  for (const auto& [image, wanted] : by_image) {
    ImageLines& lines = cache.of(identity_of(*image));
    if (lines.has_none) continue;
    std::vector<std::uint64_t> addresses;
    for (const Wanted& each : wanted) {
      if (!cache.find(lines, each.address)) addresses.push_back(each.address);
    }
    if (addresses.empty()) continue;
    std::sort(addresses.begin(), addresses.end());
    addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
    if (const LineFile source = find_line_file(*image, options.debug_root); source.file != nullptr) {
      result.push_back({image, lines.crashes, source.file->identity().size, std::move(addresses)});
    } else {
      lines.has_none = true;
    }
  }
  std::sort(result.begin(), result.end(), [](const Search& a, const Search& b) {
    return std::tie(a.crashes, a.file_size) < std::tie(b.crashes, b.file_size);
  });
  return result;
}

// Until all is known, time is over, or nothing more is to be had. Why something is missing; or empty.
std::string SourceLines::Impl::look_for(const ModuleSet& modules, const Search& search,
                                        MonotonicNanos deadline) {
  // Not kept from before: a process may have hundreds, and only so many descriptors.
  const LineFile source = find_line_file(*search.image, options.debug_root);
  if (source.file == nullptr) return {};
  ImageLines& lines = cache.of(identity_of(*search.image));
  for (std::size_t done = 0; done < search.addresses.size();) {
    if (safe::monotonic_now() >= deadline)
      return "Source lines are incomplete: there was no time to read " + source.path + ". Ask again.";
    const auto batch =
        std::span(search.addresses).subspan(done, std::min(kBatch, search.addresses.size() - done));
    if (!ask(modules, source,
             {.lines = lines, .path = source.path, .addresses = {batch.begin(), batch.end()}}, deadline))
      return "No source lines: the helper that reads them cannot be run: " + rules.problem() + ".";
    if (const Reading reading = read_answers(deadline); reading != Reading::kDone)
      return problem_of(reading, lines, source.path);
    done += batch.size();
  }
  return {};
}

std::string SourceLines::Impl::problem_of(Reading reading, const ImageLines& lines, const std::string& path) {
  switch (reading) {
    case Reading::kDone:
      return {};
    case Reading::kNotYet:
      return late();
    case Reading::kNoRoom:
      return "Source lines are incomplete: the agent has no memory for more of them.";
    case Reading::kCrashed:
      break;
  }
  if (lines.has_none)
    return "No source lines of " + path + ": the helper ends while it reads them" + rules.tight_memory() +
           ".";
  return "Source lines are incomplete: the helper has ended while it read " + path + rules.tight_memory() +
         ". Ask again later.";
}

bool SourceLines::Impl::ask(const ModuleSet& modules, const LineFile& source, Pending question,
                            MonotonicNanos deadline) {
  const line_wire::Request request{.id = ++last_id, .path = question.path, .addresses = question.addresses};
  // A second try: one that was idle for long has ended by itself.
  for (int tries = 0; tries < 2; ++tries) {
    if (!rules.provide(helper, modules, deadline)) return false;
    if (!helper.send(request, source.file->descriptor())) continue;
    question.last_answer = safe::monotonic_now();
    pending.emplace(std::move(question));
    return true;
  }
  rules.pause("it has ended at once");
  return false;
}

SourceLines::Impl::Reading SourceLines::Impl::read_answers(MonotonicNanos deadline) {
  while (pending) {
    line_wire::Answer answer;
    switch (helper.receive(answer, deadline)) {
      case LineHelper::Got::kGone:
        return give_up();
      case LineHelper::Got::kNothingYet:
        return safe::monotonic_now() - pending->last_answer > kStuck ? give_up() : Reading::kNotYet;
      case LineHelper::Got::kAnswer:
        if (const Reading reading = take(answer); reading != Reading::kDone) return reading;
    }
  }
  return Reading::kDone;
}

SourceLines::Impl::Reading SourceLines::Impl::take(const line_wire::Answer& answer) {
  // To another question.
  if (answer.id != last_id || answer.first != pending->answered ||
      answer.chains.size() > pending->addresses.size() - pending->answered)
    return give_up();
  for (const line_wire::Chain& chain : answer.chains) {
    if (!cache.add(pending->lines, pending->addresses[pending->answered], chain)) {
      helper.end();
      pending.reset();
      return Reading::kNoRoom;
    }
    ++pending->answered;
  }
  pending->last_answer = safe::monotonic_now();
  if (pending->answered == pending->addresses.size()) pending.reset();
  return Reading::kDone;
}

SourceLines::Impl::Reading SourceLines::Impl::give_up() {
  helper.end();
  ImageLines& lines = pending->lines;
  lines.has_none = ++lines.crashes >= kMaxCrashes;
  rules.pause("it has ended while it read " + pending->path);
  pending.reset();
  return Reading::kCrashed;
}

std::string SourceLines::Impl::late() {
  if (own_thread.is_to_stop()) return "Source lines are incomplete: the agent's thread was asked to end.";
  pending->is_late = true;
  return "Source lines are incomplete: " + pending->path + " is still being read. Ask again.";
}

double SourceLines::Impl::tend() {
  if (pending) {
    read_answers(safe::monotonic_now());
    last_use = safe::monotonic_now();
  }
  if (!helper.is_running()) return 0;
  const MonotonicNanos left = last_use + safe::to_nanos(options.idle_seconds) - safe::monotonic_now();
  if (left > 0) return pending ? 1 : safe::to_seconds(left);
  helper.end();
  if (cache.is_full()) clear();
  return 0;
}

void SourceLines::Impl::clear() noexcept {
  // An answer to come would be for what is forgotten.
  if (pending) helper.end();
  pending.reset();
  cache.clear();
}

SourceLines::SourceLines(LineOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}

SourceLines::~SourceLines() = default;

LineAnswer SourceLines::find(const ModuleSet& modules, std::span<const std::uintptr_t> pcs,
                             LinePatience& patience) {
  try {
    return impl_->find(modules, pcs, patience);
  } catch (const std::bad_alloc&) {
    // There may be room for a profile without them.
    impl_->clear();
    return {.chains = decltype(LineAnswer::chains)(pcs.size()),
            .problem = "No source lines: the agent has no memory for them."};
  }
}

double SourceLines::tend() {
  try {
    return impl_->tend();
  } catch (const std::bad_alloc&) {
    impl_->clear();
    return impl_->tend();
  }
}

void SourceLines::clear() noexcept {
  impl_->clear();
}

}  // namespace profagent::service
