// /debug/pprof/symbol: addresses in, mangled names out (the client demangles).
#include <algorithm>
#include <charconv>

#include "agent/service/routes_pages.h"

namespace profagent::service {

namespace {

// Go reads words through a buffer of this size and gives up on one that does not fit.
constexpr std::size_t kLongestWord = 4096;

void append_line(std::uint64_t address, std::string_view name, std::string* out) {
  char digits[16];
  const auto [end, error] = std::to_chars(std::begin(digits), std::end(digits), address, 16);
  *out += "0x";
  out->append(digits, static_cast<std::size_t>(end - digits));
  *out += ' ';
  *out += name;
  *out += '\n';
}

}  // namespace

Response symbol_page(const Site& site, const Request& request) {
  // Not decoded: %2B is no separator, and curl --data sends a form type that must not matter either.
  std::string_view rest = request.method == Method::kPost ? std::string_view(request.body) : request.query;
  std::vector<std::uintptr_t> addresses;
  bool word_too_long = false;
  while (!rest.empty() && !word_too_long) {
    const std::size_t plus = std::min(rest.find('+'), rest.size());
    word_too_long = plus >= kLongestWord;
    const std::uint64_t address = word_too_long ? 0 : parse_address_or_zero(rest.substr(0, plus));
    rest.remove_prefix(std::min(plus + 1, rest.size()));
    if (address != 0) addresses.push_back(address);
  }

  std::string out = "num_symbols: 1\n";
  const std::vector<std::string> names =
      site.symbol_names ? site.symbol_names(addresses) : std::vector<std::string>();
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (!names[i].empty()) append_line(addresses[i], names[i], &out);
  }
  if (word_too_long) out += "reading request: bufio: buffer full\n";
  return make_response("text/plain; charset=utf-8", std::move(out));
}

}  // namespace profagent::service
