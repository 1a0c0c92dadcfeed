// Profiles of what has changed since the last answer, for clients that cannot subtract two profiles
// themselves (Alloy's delta_heap and its like). On our thread only.
//
// The last numbers and stacks are kept from one request to the next, so there can only be one such client.
// They are made readable together with those of now: in the words of the request, so that what is the same is
// named alike.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "agent/service/routes.h"
#include "agent/service/symbol_wish.h"
#include "encoder/profile.h"

namespace profagent::service {

// The numbers and stacks of one moment, to be made readable.
using ReadableLater = std::function<encoder::Profile(const SymbolWish&)>;

struct SinceLast {
  const ProfileKind& kind;  // Timing::kNow
  std::function<ReadableLater()> read;
  std::function<std::uint64_t()> count;
  std::function<std::string()> state;
  unsigned absolute = 0;  // see encoder::delta()
};

[[nodiscard]] std::unique_ptr<ProfileSource> make_since_last_source(SinceLast what);

}  // namespace profagent::service
