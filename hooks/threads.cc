#include <cerrno>

#include "agent/safe/events.h"
#include "agent/safe/thread_state.h"
#include "hooks/export.h"
#include "hooks/real.h"

namespace profagent::hooks {

extern "C" {

PROFAGENT_EXPORT int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                                    void* (*start)(void*), void* argument) {
  const int result = real::pthread_create(thread, attributes, start, argument);
  // Not for a thread that an allocator makes from inside one of our hooks: it may hold its locks.
  if (result == 0 && safe::Section().is_outermost() && !safe::thread_state.is_agent) {
    const int saved_errno = errno;
    safe::raise(safe::events.thread_created);
    errno = saved_errno;
  }
  return result;
}

}  // extern "C"

}  // namespace profagent::hooks
