// ?hz= of the profiles that take samples.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/service/query.h"
#include "agent/service/routes.h"

namespace profagent::service {

// `otherwise` when the request does not say. Throws BadRequest.
[[nodiscard]] inline std::int64_t hertz_of(const Query& query, std::int64_t otherwise) {
  constexpr std::int64_t kMostHertz = 1000;
  const std::string_view text = query.get("hz");
  if (text.empty()) return otherwise;
  const auto asked = parse_int(text);
  if (!asked || *asked < 1 || *asked > kMostHertz) {
    throw BadRequest("invalid value for \"hz\" - must be an integer from 1 to " + std::to_string(kMostHertz));
  }
  return *asked;
}

}  // namespace profagent::service
