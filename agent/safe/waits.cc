#include "agent/safe/waits.h"

namespace profagent::safe {

std::string_view text_of(WaitKind kind) noexcept {
  switch (kind) {
#define PROFAGENT_WAIT(name, text) \
  case WaitKind::name:             \
    return text;
#include "agent/safe/waits.def"
#undef PROFAGENT_WAIT
    case WaitKind::kNone:
      break;
  }
  return "running";
}

}  // namespace profagent::safe
