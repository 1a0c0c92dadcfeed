// A request's parts as any text, behind the HTTP library: the screen, the routes, their parameters, and the
// bodies of POST and PUT. Fields are separated by line feeds: a byte of choices, target, Host, Origin,
// Authorization, Expect, Content-Type, body.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>

#include "agent/service/deadlock_report.h"
#include "agent/service/http_screen.h"
#include "agent/service/routes.h"
#include "test/unit/http_test_server.h"

namespace profagent::service {
namespace {

void expect(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

std::string_view take_field(std::string_view* text) {
  const std::size_t end = std::min(text->find('\n'), text->size());
  const std::string_view field = text->substr(0, end);
  text->remove_prefix(std::min(end + 1, text->size()));
  return field;
}

Site make_site() {
  Site site = test::make_fake_site();
  site.access.bearer_token = "secret";
  site.change_settings = [](std::span<const SettingChange> changes) {
    for (const SettingChange& change : changes) {
      const auto* const number = std::get_if<std::int64_t>(&change.value);
      if (number != nullptr && *number < 0) return change.name + ": must be from 0";
    }
    return std::string();
  };
  site.facts = [] {
    return std::vector<Fact>{{"service", "text", std::string("\xff\n")},
                             {"service", "texts", std::vector<std::string>{"a", ""}},
                             {"memory", "number", std::int64_t{-1}},
                             {"memory", "share", 0.5}};
  };
  site.look_for_deadlocks = [] { return [] { return DeadlockReport(); }; };
  return site;
}

void check(const Response& response) {
  expect(status_text(response.status) != "Internal Server Error" || response.status == 500,
         "a status has a text");
  const std::string head = format_head(response, {});
  for (const auto& [name, value] : response.headers) {
    expect(!name.empty() && name.find_first_of("\r\n:") == std::string::npos, "the name of a header");
    expect(value.find_first_of(std::string_view("\r\n\0", 3)) == std::string::npos, "the value of a header");
  }
  const bool is_safe =
      response.status == 307 || head.find("\r\nX-Content-Type-Options: nosniff\r\n") != std::string::npos;
  expect(is_safe, "nothing to guess a type from");
}

void answer(const Site& site, const Request& request) try {
  Answer answer = handle(site, request);
  if (const auto* response = std::get_if<Response>(&answer)) return check(*response);
  const auto& pending = std::get<Pending>(answer);
  expect(pending.seconds > 0 && pending.seconds <= static_cast<double>(kMaxSeconds), "a wait has an end");
  pending.tend();
  check(pending.finish());
} catch (const std::runtime_error& error) {
  // The made-up profiles do.
  expect(std::string_view(error.what()).starts_with("failed to "), "a client cannot make a handler throw");
}

}  // namespace
}  // namespace profagent::service

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace profagent::service;
  static const Site site = make_site();
  if (size == 0) return 0;
  std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  const unsigned choices = data[0];

  HeaderView header;
  header.method = static_cast<Method>(choices % 5);
  header.http10 = (choices & 8U) != 0;
  header.unknown_encoding = (choices & 64U) != 0;
  header.target = take_field(&rest);
  header.host = take_field(&rest);
  header.hosts = header.host.empty() ? 0 : 1;
  header.origin = take_field(&rest);
  header.authorization = take_field(&rest);
  header.expect = take_field(&rest);
  header.content_type = take_field(&rest);
  PeerUser peer;
  peer.uid = 0;
  peer.remote = (choices & 16U) != 0;
  Address address;
  if ((choices & 32U) != 0) address.kind = AddressKind::kUnix;

  Screened screened = screen(header, site.access, peer, address, 0);
  if (screened.refusal) {
    check(*screened.refusal);
    return 0;
  }
  if (rest.size() <= body_limit(screened.request.method, screened.request.path)) screened.request.body = rest;
  answer(site, screened.request);
  return 0;
}
