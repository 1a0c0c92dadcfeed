#include "agent/service/source_lines.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include <sys/prctl.h>

#include "agent/safe/sys.h"
#include "agent/safe/thread_status.h"
#include "agent/service/line_cache.h"
#include "agent/service/line_files.h"
#include "agent/service/line_helper.h"
#include "agent/service/line_wire.h"
#include "agent/service/own_thread.h"

namespace profagent::service {

namespace {

constexpr double kNanosPerSecond = 1e9;
// After a helper could not be started, none is tried for so long.
constexpr MonotonicNanos kPause = 30'000'000'000;
// One that has said nothing for so long is in an endless loop.
constexpr MonotonicNanos kStuck = 120'000'000'000;
// Once may be an accident (the kernel was out of memory).
constexpr unsigned kMaxCrashes = 2;
// Of a request: small enough that there is always something to show at the deadline.
constexpr std::size_t kBatch = 256;

MonotonicNanos nanos(double seconds) noexcept {
  return static_cast<MonotonicNanos>(seconds * kNanosPerSecond);
}

// Why no helper may be tried; null: nothing is against it.
const char* objection() {
  if (!own_thread.has_own_fd_table) return "the kernel refuses the agent a descriptor table of its own";
  // What a program installs is there to find, and to end, programs that start others.
  constexpr const char* kUnknown = "it is not known whose system call filter is in force";
  safe::ThreadStatus status;
  if (!safe::read_thread_status(safe::sys::gettid(), status))
    return safe::sys::call(SYS_prctl, PR_GET_SECCOMP) == 0 ? nullptr : kUnknown;
  if (status.filters == 0) return nullptr;
  if (status.filters < 0 || own_thread.filters_at_load < 0) return kUnknown;
  if (status.filters > own_thread.filters_at_load) return "the program has installed a system call filter";
  return nullptr;
}

// The image that this code is in.
const Image* own_image(const ModuleSet& modules) {
  const auto own = reinterpret_cast<std::uintptr_t>(&objection);
  const Module* const module = modules.find(own);
  return module == nullptr ? nullptr : modules.image_of(*module);
}

}  // namespace

struct SourceLines::Impl {
  struct Wanted {
    std::size_t index;  // in the caller's list
    std::uint64_t address;
  };
  // Addresses of an image that are not known yet.
  struct Search {
    const Image* image;
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
  };
  enum class Reading : std::uint8_t { kDone, kNotYet, kCrashed };

  LineAnswer find(const ModuleSet& modules, std::span<const std::uintptr_t> pcs);
  double tend();
  void clear();

  std::vector<Search> searches(const std::map<const Image*, std::vector<Wanted>>& by_image);
  std::string look_for(const ModuleSet& modules, const Search& search, MonotonicNanos deadline);
  bool ask(const ModuleSet& modules, const LineFile& source, Pending question, MonotonicNanos deadline);
  bool start(const ModuleSet& modules, MonotonicNanos deadline);
  Reading read_answers(MonotonicNanos deadline);
  bool take(const line_wire::Answer& answer);
  Reading give_up();
  [[nodiscard]] std::string late() const;

  LineOptions options;
  LineCache cache;
  LineHelper helper;
  std::optional<Pending> pending;
  std::uint32_t last_id = 0;
  MonotonicNanos last_use = 0;
  std::string start_problem;
  MonotonicNanos start_again_at = 0;
};

LineAnswer SourceLines::Impl::find(const ModuleSet& modules, std::span<const std::uintptr_t> pcs) {
  const MonotonicNanos deadline = monotonic_now() + nanos(options.patience_seconds);
  if (cache.is_full() && !pending) cache.clear();
  std::map<const Image*, std::vector<Wanted>> by_image;
  for (std::size_t i = 0; i < pcs.size(); ++i) {
    const Module* const module = modules.find(pcs[i]);
    const Image* const image = module == nullptr ? nullptr : modules.image_of(*module);
    const auto address = image == nullptr ? std::nullopt : modules.address_in_image(*module, pcs[i]);
    if (address) by_image[image].push_back({i, *address});
  }

  LineAnswer answer;
  // What an earlier call had no time for may be what this one asks.
  if (pending && read_answers(deadline) == Reading::kNotYet) answer.problem = late();
  if (answer.problem.empty()) {
    for (const Search& search : searches(by_image)) {
      std::string problem = look_for(modules, search, deadline);
      if (!problem.empty()) answer.problem = std::move(problem);
      // No time left, or no helper to be had.
      if (pending || monotonic_now() < start_again_at) break;
    }
  }

  answer.chains.resize(pcs.size());
  for (const auto& [image, wanted] : by_image) {
    const ImageLines& lines = cache.of(identity_of(*image));
    for (const Wanted& each : wanted) {
      const auto known = lines.by_address.find(each.address);
      if (known != lines.by_address.end()) answer.chains[each.index] = known->second;
    }
  }
  last_use = monotonic_now();
  return answer;
}

// The smallest file first: the largest must not keep the others waiting.
std::vector<SourceLines::Impl::Search> SourceLines::Impl::searches(
    const std::map<const Image*, std::vector<Wanted>>& by_image) {
  std::vector<Search> result;
  for (const auto& [image, wanted] : by_image) {
    ImageLines& lines = cache.of(identity_of(*image));
    if (lines.has_none) continue;
    std::vector<std::uint64_t> addresses;
    for (const Wanted& each : wanted) {
      if (!lines.by_address.contains(each.address)) addresses.push_back(each.address);
    }
    if (addresses.empty()) continue;
    std::sort(addresses.begin(), addresses.end());
    addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
    if (const LineFile source = find_line_file(*image, options.debug_root); source.file != nullptr) {
      result.push_back({image, source.file->identity().size, std::move(addresses)});
    } else {
      lines.has_none = true;
    }
  }
  std::sort(result.begin(), result.end(),
            [](const Search& a, const Search& b) { return a.file_size < b.file_size; });
  return result;
}

// Until all is known, time is over, or nothing more is to be had. Why something is missing; or empty.
std::string SourceLines::Impl::look_for(const ModuleSet& modules, const Search& search,
                                        MonotonicNanos deadline) {
  // Not kept from before: a process may have hundreds, and only so many descriptors.
  const LineFile source = find_line_file(*search.image, options.debug_root);
  if (source.file == nullptr) return {};
  ImageLines& lines = cache.of(identity_of(*search.image));
  std::size_t done = 0;
  while (done < search.addresses.size()) {
    const auto batch =
        std::span(search.addresses).subspan(done, std::min(kBatch, search.addresses.size() - done));
    if (!ask(modules, source,
             {.lines = lines, .path = source.path, .addresses = {batch.begin(), batch.end()}}, deadline))
      return "No source lines: the helper that reads them cannot be run: " + start_problem + ".";
    switch (read_answers(deadline)) {
      case Reading::kNotYet:
        return late();
      case Reading::kCrashed:
        if (lines.crashes < kMaxCrashes) continue;
        lines.has_none = true;
        return "No source lines of " + source.path + ": the helper ends while it reads them.";
      case Reading::kDone:
        done += batch.size();
    }
  }
  return {};
}

bool SourceLines::Impl::ask(const ModuleSet& modules, const LineFile& source, Pending question,
                            MonotonicNanos deadline) {
  const line_wire::Request request{.id = ++last_id, .path = question.path, .addresses = question.addresses};
  // A second try: one that was idle for long has ended by itself.
  for (int tries = 0; tries < 2; ++tries) {
    if (!helper.is_running() && !start(modules, deadline)) return false;
    if (!helper.send(request, source.file->descriptor())) continue;
    question.last_answer = monotonic_now();
    pending.emplace(std::move(question));
    return true;
  }
  start_problem = "it has ended at once";
  start_again_at = monotonic_now() + kPause;
  return false;
}

bool SourceLines::Impl::start(const ModuleSet& modules, MonotonicNanos deadline) {
  if (monotonic_now() < start_again_at) return false;
  if (const char* const objects = objection(); objects != nullptr) {
    start_problem = objects;
  } else {
    const Image* const own = own_image(modules);
    const auto file = !options.helper.empty() ? FileBytes::open(options.helper.c_str(), Links::kFollow)
                      : own == nullptr        ? nullptr
                                              : open_running_file(*own);
    start_problem = file == nullptr ? "the file of the agent's library is gone or not the same"
                                    : helper.start(file->descriptor(), deadline);
  }
  if (start_problem.empty()) return true;
  start_again_at = monotonic_now() + kPause;
  return false;
}

SourceLines::Impl::Reading SourceLines::Impl::read_answers(MonotonicNanos deadline) {
  while (pending) {
    line_wire::Answer answer;
    switch (helper.receive(answer, deadline)) {
      case LineHelper::Got::kGone:
        return give_up();
      case LineHelper::Got::kNothingYet:
        return monotonic_now() - pending->last_answer > kStuck ? give_up() : Reading::kNotYet;
      case LineHelper::Got::kAnswer:
        if (!take(answer)) return give_up();
    }
  }
  return Reading::kDone;
}

// False for an answer to another question.
bool SourceLines::Impl::take(const line_wire::Answer& answer) {
  if (answer.id != last_id || answer.first != pending->answered ||
      answer.chains.size() > pending->addresses.size() - pending->answered)
    return false;
  for (const line_wire::Chain& chain : answer.chains)
    cache.add(pending->lines, pending->addresses[pending->answered++], chain);
  pending->last_answer = monotonic_now();
  if (pending->answered == pending->addresses.size()) pending.reset();
  return true;
}

SourceLines::Impl::Reading SourceLines::Impl::give_up() {
  helper.end();
  ++pending->lines.crashes;
  pending.reset();
  return Reading::kCrashed;
}

std::string SourceLines::Impl::late() const {
  if (own_thread.is_to_stop()) return "Source lines are incomplete: the agent's thread was asked to end.";
  return "Source lines are incomplete: " + pending->path + " is still being read. Ask again.";
}

double SourceLines::Impl::tend() {
  if (pending) {
    read_answers(monotonic_now());
    last_use = monotonic_now();
  }
  if (!helper.is_running()) return 0;
  const MonotonicNanos left = last_use + nanos(options.idle_seconds) - monotonic_now();
  if (left > 0) return pending ? 1 : static_cast<double>(left) / kNanosPerSecond;
  helper.end();
  return 0;
}

void SourceLines::Impl::clear() {
  // An answer to come would be for what is forgotten.
  if (pending) helper.end();
  pending.reset();
  cache.clear();
}

SourceLines::SourceLines(LineOptions options) : impl_(std::make_unique<Impl>()) {
  impl_->options = std::move(options);
}

SourceLines::~SourceLines() = default;

LineAnswer SourceLines::find(const ModuleSet& modules, std::span<const std::uintptr_t> pcs) {
  return impl_->find(modules, pcs);
}

double SourceLines::tend() {
  return impl_->tend();
}

void SourceLines::clear() noexcept {
  impl_->clear();
}

}  // namespace profagent::service
