// Where calls enter under common names (pause, wait, mtx_lock): a library that the program was linked
// with may have a function of its own under such a name, with other parameters or answers. What is exported
// is one jump through a pointer here, by which all arguments pass, however many there are.
//
// The pointer leads to the hook when libc's function stands behind us, or one that acts for libc's; else to
// that function itself. It starts at a stub that resolves the table, as those of hooks/real.h do.
#pragma once

#include "hooks/real.h"

namespace profagent::hooks {

// The hooks (hooks/io_waits.cc).
namespace watched {
#define PROFAGENT_HOOK(name, result, parameters, arguments, fallback)
#define PROFAGENT_WAIT_HOOK(name, result, parameters, arguments) result name parameters;
#include "hooks/table.def"
#undef PROFAGENT_HOOK
}  // namespace watched

namespace entry {
#define PROFAGENT_HOOK(name, result, parameters, arguments, fallback)
#define PROFAGENT_WAIT_HOOK(name, result, parameters, arguments) \
  [[gnu::visibility("hidden")]] extern constinit std::add_pointer_t<result parameters> name;
#include "hooks/table.def"
#undef PROFAGENT_HOOK
}  // namespace entry

}  // namespace profagent::hooks
