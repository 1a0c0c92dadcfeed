// Every endpoint, as one table, and what the rest of the agent has to provide for them.
// On the service's thread only. Handlers may throw: the session answers 500 and goes on.
//
// A profile kind becomes visible (its endpoint, ?seconds=, debug=1, the index entry) by being in
// Site::profiles. An endpoint is one row of the table in routes.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "agent/service/access.h"
#include "agent/service/http_message.h"
#include "agent/service/query.h"

namespace profagent::service {

// Over which time a profile of a kind is taken.
enum class Timing {
  kNow,         // a snapshot; ?seconds= is refused
  kNowOrDelta,  // a snapshot, or with ?seconds=N what changed meanwhile
  kOverTime,    // always collected over N seconds (profile, wall, trace)
};

// The row of a kind.
struct ProfileKind {
  std::string_view name;      // /debug/pprof/NAME, and the file name that a browser saves
  std::string_view sentence;  // for the index
  Timing timing = Timing::kNowOrDelta;
  double default_seconds = 0;       // Timing::kOverTime: when the request names none, or a wrong one
  bool fractional_seconds = false;  // Timing::kOverTime: "0.5" is half a second (trace), else wrong
  std::span<const std::string_view> other_paths = {};  // e.g. "/debug/fgprof"
  bool is_for_scraper = false;  // people have another profile for it: the index shows no command and no state
};

// A collection that takes time, between its two ends. Destroying it unfinished gives up and leaves nothing
// switched on.
class Collection {
 public:
  Collection() = default;
  Collection(const Collection&) = delete;
  Collection& operator=(const Collection&) = delete;
  virtual ~Collection() = default;
  // Called now and then meanwhile, first at once. Returns after how many seconds it wants to be called again;
  // 0: not at all, which ends one that times itself.
  virtual double tend() { return 0; }
  // True: it is over when tend() says so, because its ends are taken in slices, or because it is of now. Else
  // after the seconds that it was begun for.
  [[nodiscard]] virtual bool times_itself() const { return false; }
  // The encoded profile, gzip included, or the text that was asked for.
  virtual std::string finish() = 0;
};

// A parameter of the request cannot be used; what() says why, in words for its sender.
class BadRequest : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

class ProfileSource {
 public:
  ProfileSource() = default;
  ProfileSource(const ProfileSource&) = delete;
  ProfileSource& operator=(const ProfileSource&) = delete;
  virtual ~ProfileSource() = default;

  [[nodiscard]] virtual const ProfileKind& kind() const = 0;
  // Records, for the index.
  virtual std::uint64_t count() = 0;
  // Why the profile is empty, or what it is doing, in one sentence for the index; empty when there is nothing
  // to say.
  virtual std::string state() = 0;
  // False: it is empty, for the reason that state() gives.
  virtual bool is_ready() { return state().empty(); }
  // The encoded profile of now, gzip included. `query` has what else the request said (gc=1, labels, ...).
  // Neither this nor text() for Timing::kOverTime.
  virtual std::string snapshot(const Query& /*query*/) { return {}; }
  // debug=1 and above.
  virtual std::string text(std::int64_t /*debug*/, const Query& /*query*/) { return {}; }
  // Instead of these two, when they would hold up other requests: the same in slices, by a collection that
  // times itself. `debug` 0: the encoded profile.
  virtual std::unique_ptr<Collection> begin_now(std::int64_t /*debug*/, const Query& /*query*/) { return {}; }
  // Takes the first end of a collection of `seconds`. Never null; throws when it cannot be started,
  // BadRequest when the query is to blame.
  virtual std::unique_ptr<Collection> begin(double seconds, const Query& query) = 0;
};

// A setting, as /debug/pprof/config shows it.
struct SettingView {
  using Value = std::variant<std::int64_t, std::string>;
  std::string name;
  std::string environment;
  Value current;
  Value default_value;
  std::optional<std::int64_t> min, max;
  std::string source;   // "default", "environment", "PUT"; "request" while one has `current` its way
  std::string problem;  // what was wrong with the value in the environment; empty when nothing was
  std::string help;
  std::vector<std::string> choices = {};  // of a text that is one of some words
  bool live = false;                      // may be changed by a PUT
};

struct SettingChange {
  std::string name;
  SettingView::Value value;
};

// How /metrics shows a fact.
enum class Metric { kNone, kGauge, kCounter };

// Something that the agent knows of itself, for /debug/pprof/agent: shown as {"section": {"name": value}}.
struct Fact {
  std::string section;
  std::string name;
  std::variant<std::int64_t, double, bool, std::string, std::vector<std::string>> value;
  Metric metric = Metric::kNone;  // only for numbers; a name that ends in _bytes or _seconds has that unit
  std::string_view help = {};     // of the metric; lives for ever
};

struct DeadlockReport;

// All that the endpoints show. Built by the roof, on the service's thread.
struct Site {
  std::vector<std::unique_ptr<ProfileSource>> profiles;
  std::string cmdline;  // argv joined by NUL, as the program was started
  // For each address the mangled name of the function that it lies in, empty when there is none. All at once,
  // because a client asks for a hundred thousand.
  std::function<std::vector<std::string>(std::span<const std::uintptr_t>)> symbol_names;
  std::function<std::vector<SettingView>()> settings;
  // Makes all changes, or none and says why.
  std::function<std::string(std::span<const SettingChange>)> change_settings;
  std::function<std::vector<Fact>()> facts;
  // Begins to look for threads that wait for each other. What it returns is to be called after a pause.
  std::function<std::function<DeadlockReport()>()> look_for_deadlocks;
  AccessPolicy access;
  // Called now and then. Returns after how many seconds at most it wants to be called again; 0: whenever
  // something happens.
  std::function<double()> tend;
};

// An answer that takes time: wait, then call finish(). Destroying it unfinished is the cancel.
struct Pending {
  double seconds = 0;            // 0: until tend() wants no more
  std::function<double()> tend;  // as Collection's
  std::function<Response()> finish;
};

using Answer = std::variant<Response, Pending>;

// Longest ?seconds= that is accepted.
inline constexpr std::int64_t kMaxSeconds = 3600;

// Never throws for what a client sent; throws what the site's parts throw.
[[nodiscard]] Answer handle(const Site& site, const Request& request);

inline constexpr std::size_t kLargestBody = 16 << 20;

// How large a body the request may have; asked before the body is read. 0: the answer does not depend on a
// body.
[[nodiscard]] std::size_t body_limit(Method method, std::string_view path) noexcept;

}  // namespace profagent::service
