#include "agent/service/routes.h"

#include <algorithm>
#include <array>

#include "agent/service/routes_pages.h"

namespace profagent::service {

namespace {

constexpr std::string_view kPrefix = "/debug/pprof/";
constexpr std::string_view kPlainText = "text/plain; charset=utf-8";

enum Methods : unsigned { kReads = 1, kPosts = 2 };

struct Route {
  std::string_view path;
  unsigned methods;
  std::string_view sentence;  // for the index; empty: not listed
  Answer (*answer)(const Site& site, const Request& request);
};

Answer answer_index(const Site& site, const Request& request);

Answer answer_redirect(const Site& /*site*/, const Request& request) {
  std::string location(kPrefix);
  if (!request.query.empty()) location += "?" + request.query;
  return make_redirect(location);
}

Answer answer_cmdline(const Site& site, const Request& /*request*/) {
  return make_response(kPlainText, site.cmdline);
}

Answer answer_symbol(const Site& site, const Request& request) {
  return symbol_page(site, request);
}

Answer answer_config(const Site& site, const Request& /*request*/) {
  const auto settings = site.settings ? site.settings() : std::vector<SettingView>();
  return make_response("application/json", config_json(settings));
}

Answer answer_agent(const Site& site, const Request& request) {
  const auto facts = site.facts ? site.facts() : std::vector<Fact>();
  if (Query(request.query).get("format") == "text") return make_response(kPlainText, facts_text(facts));
  return make_response("application/json", facts_json(facts));
}

constexpr Route kRoutes[] = {
    {"/", kReads, "", answer_redirect},
    {"/debug/pprof", kReads, "", answer_redirect},
    {"/debug/pprof/", kReads, "", answer_index},
    {"/debug/pprof/agent", kReads,
     "The agent itself: what it covers, what it had to drop, what it costs. JSON; text with ?format=text.",
     answer_agent},
    {"/debug/pprof/cmdline", kReads, "The command line that the program was started with.", answer_cmdline},
    {"/debug/pprof/config", kReads, "Every setting with its value, bounds and meaning. JSON.", answer_config},
    {"/debug/pprof/symbol", kReads | kPosts,
     "Function names for the addresses in the query or in the body of a POST.", answer_symbol},
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
  return method == Method::kPost && (methods & kPosts) != 0;
}

Response refuse_method(unsigned methods) {
  Response response = make_plain_error(405, "Method Not Allowed");
  response.headers.emplace_back("Allow", (methods & kPosts) != 0 ? "GET, HEAD, POST" : "GET, HEAD");
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
  // As large as the largest there is: go tool pprof asks for all addresses of a mapping at once.
  return method == Method::kPost && route != nullptr && allows(route->methods, method) ? kLargestBody : 0;
}

}  // namespace profagent::service
