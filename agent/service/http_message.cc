#include "agent/service/http_message.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>

namespace profagent::service {

namespace {

constexpr std::string_view kPlainText = "text/plain; charset=utf-8";

// What is in a header must be printable ASCII; the rest of an address is escaped, as Go does.
std::string escape_unprintable(std::string_view address) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string result;
  for (const char c : address) {
    if (c > ' ' && c <= '~') {
      result += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    result += {'%', kDigits[byte >> 4U], kDigits[byte & 15U]};
  }
  return result;
}

}  // namespace

Response make_response(std::string_view content_type, std::string body) {
  Response response;
  response.headers.emplace_back("Content-Type", content_type);
  response.headers.emplace_back("X-Content-Type-Options", "nosniff");
  response.body = std::move(body);
  return response;
}

Response make_plain_error(int status, std::string_view text) {
  Response response = make_response(kPlainText, std::string(text) + "\n");
  response.status = status;
  return response;
}

Response make_pprof_error(int status, std::string_view text) {
  Response response = make_plain_error(status, text);
  response.headers.emplace_back("X-Go-Pprof", "1");
  return response;
}

Response make_redirect(std::string_view location) {
  const std::string escaped = escape_unprintable(location);
  Response response;
  response.status = 307;
  response.headers.emplace_back("Content-Type", "text/html; charset=utf-8");
  response.headers.emplace_back("Location", escaped);
  response.body = "<a href=\"" + escape_html(escaped) + "\">Temporary Redirect</a>.\n\n";
  return response;
}

std::string_view status_text(int status) noexcept {
  switch (status) {
    case 200:
      return "OK";
    case 307:
      return "Temporary Redirect";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Request Entity Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 431:
      return "Request Header Fields Too Large";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    default:
      return "Internal Server Error";
  }
}

std::string format_http_date(std::int64_t unix_seconds) {
  using std::chrono::floor;
  static constexpr std::array<const char*, 7> kDays = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr std::array<const char*, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::chrono::sys_seconds when{std::chrono::seconds(unix_seconds)};
  const auto day = floor<std::chrono::days>(when);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss time(when - day);
  char text[64];
  const int length =
      std::snprintf(text, sizeof(text), "%s, %02u %s %04d %02d:%02d:%02d GMT",
                    kDays[std::chrono::weekday(day).c_encoding()], static_cast<unsigned>(date.day()),
                    kMonths[static_cast<unsigned>(date.month()) - 1], static_cast<int>(date.year()),
                    static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()),
                    static_cast<int>(time.seconds().count()));
  return {text, static_cast<std::size_t>(length)};
}

std::string format_head(const Response& response, const HeadOptions& options) {
  auto headers = response.headers;
  std::stable_sort(headers.begin(), headers.end(),
                   [](const auto& left, const auto& right) { return left.first < right.first; });
  headers.emplace_back("Date", format_http_date(options.unix_seconds));
  if (!options.without_length) headers.emplace_back("Content-Length", std::to_string(response.body.size()));
  if (options.close && !options.http10) headers.emplace_back("Connection", "close");

  std::string head = options.http10 ? "HTTP/1.0 " : "HTTP/1.1 ";
  head += std::to_string(response.status);
  head += ' ';
  head += status_text(response.status);
  head += "\r\n";
  for (const auto& [name, value] : headers) {
    head += name;
    head += ": ";
    head += value;
    head += "\r\n";
  }
  head += "\r\n";
  return head;
}

std::string escape_html(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&#34;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

}  // namespace profagent::service
