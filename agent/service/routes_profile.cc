// One profile kind over HTTP: the order of the checks and the texts are those of Go's handlers.
#include "agent/service/routes_pages.h"

namespace profagent::service {

namespace {

constexpr std::string_view kBinary = "application/octet-stream";

Response profile_file(std::string_view file_name, std::string bytes) {
  Response response = make_response(kBinary, std::move(bytes));
  response.headers.emplace_back("Content-Disposition",
                                "attachment; filename=\"" + std::string(file_name) + "\"");
  return response;
}

Answer collect(ProfileSource& source, double seconds, const Query& query, std::string file_name) {
  // std::function wants a copyable callable.
  std::shared_ptr<Collection> collection = source.begin(seconds, query);
  return Pending{collection->times_itself() ? 0 : seconds, [collection] { return collection->tend(); },
                 [collection, file_name = std::move(file_name)] {
                   return profile_file(file_name, collection->finish());
                 }};
}

Response profile_text(std::string text) {
  return make_response("text/plain; charset=utf-8", std::move(text));
}

// Go answers debug=-1 with text/plain too; 1 is the least that has a text.
Answer now(ProfileSource& source, std::int64_t debug, const Query& query) {
  if (debug < 0) debug = 1;
  const auto response = [debug, name = source.kind().name](std::string body) {
    return debug == 0 ? profile_file(name, std::move(body)) : profile_text(std::move(body));
  };
  if (const std::shared_ptr<Collection> collection = source.begin_now(debug, query)) {
    return Pending{0, [collection] { return collection->tend(); },
                   [collection, response] { return response(collection->finish()); }};
  }
  return response(debug == 0 ? source.snapshot(query) : source.text(debug, query));
}

Response refuse_long_request() {
  return make_pprof_error(400, "\"seconds\" must be at most " + std::to_string(kMaxSeconds));
}

Answer delta(ProfileSource& source, std::string_view seconds_text, std::int64_t debug, const Query& query) {
  const auto seconds = parse_int(seconds_text);
  if (!seconds || *seconds <= 0) {
    return make_pprof_error(400, "invalid value for \"seconds\" - must be a positive integer");
  }
  if (source.kind().timing == Timing::kNow) {
    return make_pprof_error(400, "\"seconds\" parameter is not supported for this profile type");
  }
  if (debug != 0) return make_pprof_error(400, "seconds and debug params are incompatible");
  if (*seconds > kMaxSeconds) return refuse_long_request();
  return collect(source, static_cast<double>(*seconds), query, std::string(source.kind().name) + "-delta");
}

// Only plain decimal fractions: what strconv.ParseFloat takes beyond that (hex, inf, 1e3) nobody sends. Not
// std::from_chars, whose floating-point form brings libm in.
double parse_fraction_or_zero(std::string_view text) noexcept {
  const std::size_t point = text.find('.');
  const std::string_view whole = text.substr(0, point);
  const std::string_view rest = point == std::string_view::npos ? std::string_view() : text.substr(point + 1);
  if (whole.empty() && rest.empty()) return 0;
  double value = 0;
  double unit = 1;
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  for (const char c : whole) {
    if (!is_digit(c)) return 0;
    value = value * 10 + (c - '0');
  }
  for (const char c : rest) {
    if (!is_digit(c)) return 0;
    unit /= 10;
    value += (c - '0') * unit;
  }
  return value;
}

Answer over_time(ProfileSource& source, std::string_view seconds_text, const Query& query) {
  const ProfileKind& kind = source.kind();
  double seconds = kind.fractional_seconds ? parse_fraction_or_zero(seconds_text)
                                           : static_cast<double>(parse_int(seconds_text).value_or(0));
  if (seconds <= 0) seconds = kind.default_seconds;
  if (seconds > static_cast<double>(kMaxSeconds)) return refuse_long_request();
  return collect(source, seconds, query, std::string(kind.name));
}

}  // namespace

Answer profile_page(ProfileSource& source, const Request& request) try {
  const Query query(request.query);
  const std::string_view seconds = query.get("seconds");
  if (source.kind().timing == Timing::kOverTime) return over_time(source, seconds, query);

  const std::int64_t debug = parse_int_or_zero(query.get("debug"));
  if (!seconds.empty()) return delta(source, seconds, debug, query);
  return now(source, debug, query);
} catch (const BadRequest& error) {
  return make_pprof_error(400, error.what());
}

}  // namespace profagent::service
