#include "agent/service/routes.h"

#include <algorithm>
#include <array>

#include "agent/service/routes_pages.h"

namespace profagent::service {

namespace {

constexpr std::string_view kPrefix = "/debug/pprof/";
constexpr std::string_view kPlainText = "text/plain; charset=utf-8";

enum Methods : unsigned { kReads = 1, kPosts = 2, kPuts = 4 };

struct Route {
  std::string_view path;
  unsigned methods;
  std::string_view sentence;  // for the index; empty: not listed
  Answer (*answer)(const Site& site, const Request& request);
};

Answer answer_index(const Site& site, const Request& request);
ProfileSource* find_profile(const Site& site, std::string_view path);

// To another path, with the query that came.
Response redirect(std::string_view path, const Request& request) {
  std::string location;
  for (const char c : path) {
    switch (c) {
      case '%':
        location += "%25";
        break;
      case '?':
        location += "%3F";
        break;
      case '#':
        location += "%23";
        break;
      case '\\':  // which browsers take for a slash: two of them begin the name of a host
        location += "%5C";
        break;
      default:
        location += c;
    }
  }
  if (!request.query.empty()) location += "?" + request.query;
  return make_redirect(location);
}

Answer answer_redirect(const Site& /*site*/, const Request& request) {
  return redirect(kPrefix, request);
}

Answer answer_cmdline(const Site& site, const Request& /*request*/) {
  return make_response(kPlainText, site.cmdline);
}

Answer answer_symbol(const Site& site, const Request& request) {
  return symbol_page(site, request);
}

// A form cannot have this type, so no page elsewhere can make its visitor's browser send it unasked.
constexpr std::string_view kJson = "application/json";

Response change_config(const Site& site, const Request& request) try {
  const std::string_view type =
      std::string_view(request.content_type).substr(0, request.content_type.find(';'));
  if (type != kJson) return make_pprof_error(415, "the Content-Type must be application/json");
  if (!site.change_settings) return make_pprof_error(500, "no settings");
  const std::string problem = site.change_settings(parse_changes(request.body));
  if (!problem.empty()) return make_pprof_error(400, problem);
  return make_response(kJson, config_json(site.settings()));
} catch (const BadRequest& error) {
  return make_pprof_error(400, error.what());
}

Answer answer_config(const Site& site, const Request& request) {
  if (request.method == Method::kPut) return change_config(site, request);
  const auto settings = site.settings ? site.settings() : std::vector<SettingView>();
  return make_response(kJson, config_json(settings));
}

std::vector<Fact> facts_of(const Site& site) {
  return site.facts ? site.facts() : std::vector<Fact>();
}

Answer answer_agent(const Site& site, const Request& request) {
  std::vector<Fact> facts = facts_of(site);
  for (const auto& source : site.profiles) {
    const std::string state = source->state();
    facts.push_back({"profiles", std::string(source->kind().name), state.empty() ? "on" : state});
  }
  if (Query(request.query).get("format") == "text") return make_response(kPlainText, facts_text(facts));
  return make_response("application/json", facts_json(facts));
}

Answer answer_metrics(const Site& site, const Request& /*request*/) {
  return make_response(kMetricsType, metrics_text(site, facts_of(site)));
}

// What gperftools' pprof, which is older than Go's, asks for: text and its own form of a CPU profile.
constexpr const char* kGperftools = "&format=gperftools";

Answer old_text(const Site& site, std::string_view path, const Request& request) {
  ProfileSource* source = find_profile(site, path);
  if (source == nullptr) return make_pprof_error(404, "Unknown profile");
  return make_response(kPlainText, source->text(1, Query(request.query + kGperftools)));
}

Answer answer_old_heap(const Site& site, const Request& request) {
  return old_text(site, "/debug/pprof/heap", request);
}

Answer answer_old_contention(const Site& site, const Request& request) {
  return old_text(site, "/debug/pprof/block", request);
}

Answer answer_old_profile(const Site& site, const Request& request) {
  ProfileSource* source = find_profile(site, "/debug/pprof/profile");
  if (source == nullptr) return make_pprof_error(404, "Unknown profile");
  Request wanted = request;
  wanted.query += kGperftools;
  return profile_page(*source, wanted);
}

Answer answer_deadlock(const Site& site, const Request& request) {
  if (!site.look_for_deadlocks) return make_pprof_error(500, "no deadlocks");
  const bool is_json = Query(request.query).get("format") == "json";
  constexpr double kPause = 0.1;
  return Pending{kPause, [] { return 0.0; },
                 [look_again = site.look_for_deadlocks(), is_json] {
                   const DeadlockReport report = look_again();
                   return is_json ? make_response(kJson, deadlock_json(report))
                                  : make_response(kPlainText, deadlock_text(report));
                 }};
}

constexpr Route kRoutes[] = {
    {"/", kReads, "", answer_redirect},
    {"/debug/pprof", kReads, "", answer_redirect},
    {"/debug/pprof/", kReads, "", answer_index},
    {"/debug/pprof/agent", kReads,
     "The agent itself: what it covers, what it had to drop, what it costs. JSON; text with ?format=text.",
     answer_agent},
    {"/debug/pprof/cmdline", kReads, "The command line that the program was started with.", answer_cmdline},
    {"/debug/pprof/config", kReads | kPuts,
     "Every setting with its value, bounds and meaning. JSON; a PUT of {\"name\": value} changes some.",
     answer_config},
    {"/debug/pprof/deadlock", kReads,
     "Threads that wait for each other in a circle, locks whose holder has ended, and who holds up the most "
     "others. Text; JSON with ?format=json.",
     answer_deadlock},
    {"/debug/pprof/symbol", kReads | kPosts,
     "Function names for the addresses in the query or in the body of a POST.", answer_symbol},
    {"/metrics", kReads, "", answer_metrics},
    {"/pprof/cmdline", kReads, "", answer_cmdline},
    {"/pprof/contention", kReads, "", answer_old_contention},
    {"/pprof/heap", kReads, "", answer_old_heap},
    {"/pprof/profile", kReads, "", answer_old_profile},
    {"/pprof/symbol", kReads | kPosts, "", answer_symbol},
};

const Route* find_route(std::string_view path) noexcept {
  const auto* found = std::find_if(std::begin(kRoutes), std::end(kRoutes),
                                   [&](const Route& route) { return route.path == path; });
  return found == std::end(kRoutes) ? nullptr : found;
}

ProfileSource* find_profile(const Site& site, std::string_view path) {
  for (const auto& source : site.profiles) {
    const ProfileKind& kind = source->kind();
    if (path.substr(0, kPrefix.size()) == kPrefix && path.substr(kPrefix.size()) == kind.name)
      return source.get();
    if (std::find(kind.other_paths.begin(), kind.other_paths.end(), path) != kind.other_paths.end())
      return source.get();
  }
  return nullptr;
}

bool allows(unsigned methods, Method method) noexcept {
  if (method == Method::kGet || method == Method::kHead) return (methods & kReads) != 0;
  if (method == Method::kPut) return (methods & kPuts) != 0;
  return method == Method::kPost && (methods & kPosts) != 0;
}

Response refuse_method(unsigned methods) {
  Response response = make_plain_error(405, "Method Not Allowed");
  std::string allowed = "GET, HEAD";
  if ((methods & kPosts) != 0) allowed += ", POST";
  if ((methods & kPuts) != 0) allowed += ", PUT";
  response.headers.emplace_back("Allow", std::move(allowed));
  return response;
}

Answer answer_index(const Site& site, const Request& request) {
  std::vector<PageView> pages;
  for (const Route& route : kRoutes) {
    if (!route.sentence.empty()) pages.push_back({route.path.substr(kPrefix.size()), route.sentence});
  }
  return make_response("text/html; charset=utf-8", index_page(site, request, pages));
}

}  // namespace

Answer handle(const Site& site, const Request& request) {
  // An address that was put together of two parts easily has two slashes.
  const std::string clean = clean_path(request.path);
  if (request.path.starts_with('/') && clean != request.path) return redirect(clean, request);

  const Route* route = find_route(request.path);
  ProfileSource* profile = route == nullptr ? find_profile(site, request.path) : nullptr;
  const bool is_ours = route != nullptr || profile != nullptr || request.path.starts_with(kPrefix);
  if (!is_ours) return make_plain_error(404, "404 page not found");

  const unsigned methods = route != nullptr ? route->methods : static_cast<unsigned>(kReads);
  if (!allows(methods, request.method)) return refuse_method(methods);
  if (route != nullptr) return route->answer(site, request);
  if (profile != nullptr) return profile_page(*profile, request);
  return make_pprof_error(404, "Unknown profile");
}

std::size_t body_limit(Method method, std::string_view path) noexcept {
  const Route* route = find_route(path);
  if (route == nullptr || !allows(route->methods, method)) return 0;
  // As large as the largest there is: go tool pprof asks for all addresses of a mapping at once.
  if (method == Method::kPost) return kLargestBody;
  constexpr std::size_t kLargestConfig = 64 << 10;
  return method == Method::kPut ? kLargestConfig : 0;
}

}  // namespace profagent::service
