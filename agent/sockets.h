// The sockets that PROFAGENT_ADDR names, and the token by which remote clients are known.
#pragma once

#include <cstdint>

#include "agent/service/access_token.h"
#include "agent/service/listen.h"

namespace profagent {

struct Served;

// What cannot be opened, or read, is told in the log and among the settings. `forks`: how often the process
// and its ancestors have been forked since load. On a thread of the program; as agent/serving.h.
void open_sockets(const Served& served, std::uint64_t forks, service::Listeners* listeners,
                  service::Token* token) noexcept;

}  // namespace profagent
