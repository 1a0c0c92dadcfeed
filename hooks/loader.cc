// dlclose only: after it, addresses may come to mean other code. dlopen is not hooked, because glibc looks
// at its caller's return address.
#include "agent/safe/module_log.h"
#include "agent/safe/unwind.h"
#include "hooks/export.h"
#include "hooks/real.h"

namespace profagent::hooks {

extern "C" {

PROFAGENT_EXPORT(dlclose)
int dlclose(void* handle) {
  const int result = real::dlclose(handle);
  safe::module_log.on_unload();
  safe::forget_unwind_rules();
  return result;
}

}  // extern "C"

}  // namespace profagent::hooks
