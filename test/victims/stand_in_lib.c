// A preloaded library behind the agent that stands in for some of libc's waits, as those do that change time
// or networks: adds nothing.
#include <dlfcn.h>
#include <poll.h>
#include <sys/file.h>

#include "test/victims/kit.h"

int poll(struct pollfd* entries, nfds_t count, int timeout) {
  return ((int (*)(struct pollfd*, nfds_t, int))dlsym(RTLD_NEXT, "poll"))(entries, count, timeout);
}

int flock(int descriptor, int operation) {
  return ((int (*)(int, int))dlsym(RTLD_NEXT, "flock"))(descriptor, operation);
}
