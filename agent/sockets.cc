#include "agent/sockets.h"

#include <ctime>

#include <sys/utsname.h>

#include "agent/log.h"
#include "agent/safe/clock.h"
#include "agent/safe/settings.h"
#include "agent/safe/sys.h"
#include "agent/serving.h"

namespace profagent {

namespace {

service::Remote look_for_token(service::Token* token) {
  token->clear();
  if (safe::settings.allow_remote.load(std::memory_order_relaxed) == 0) return service::Remote::kForbidden;
  service::ProblemText problem;
  if (service::read_token(safe::settings.token_file.load(std::memory_order_relaxed), token, &problem))
    return service::Remote::kAllowed;
  safe::report_setting("PROFAGENT_TOKEN_FILE", problem.c_str());
  log(LogLevel::kError, {"PROFAGENT_TOKEN_FILE ", problem.view(), "; remote clients are not served"});
  return service::Remote::kLacksToken;
}

}  // namespace

void open_sockets(const Served& served, std::uint64_t forks, service::Listeners* listeners,
                  service::Token* token) noexcept {
  utsname host{};
  uname(&host);
  const service::AddressFacts facts{
      .pid = safe::sys::getpid(),
      .uid = static_cast<uid_t>(safe::sys::call(SYS_geteuid)),
      .executable = served.program.name,
      .host = host.nodename,
      .unix_time = static_cast<std::uint64_t>(safe::now_by(CLOCK_REALTIME) / safe::kNanosPerSecond),
      .counter = forks,
      .runtime_dir = served.runtime_dir,
      .remote = look_for_token(token),
  };
  service::AddressList addresses;
  service::ProblemText problems;
  service::parse_addresses(safe::settings.addr.load(std::memory_order_relaxed), facts, &addresses, &problems);
  if (!problems.empty()) {
    safe::report_setting("PROFAGENT_ADDR", problems.c_str());
    log(LogLevel::kError, {"PROFAGENT_ADDR: ", problems.view()});
  }
  listeners->open(addresses, facts.pid);
  if (!listeners->problems().empty()) log(LogLevel::kError, {listeners->problems()});
  for (const service::Listener& listener : listeners->all()) {
    if (listener.is_wake_up) continue;
    service::FixedText<160> address;
    service::describe(listener.address, &address);
    log(LogLevel::kInfo, {"serving on ", address.view()});
  }
}

}  // namespace profagent
