// A preloaded library behind the agent: when the program gives up a right, says whether the agent's thread is
// about, which must not have another one. Also in signal handlers.
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "test/victims/kit.h"

struct entry {
  unsigned long inode;
  long offset;
  unsigned short length;
  unsigned char type;
  char name[];
};

static int is_the_agents(const char* tid) {
  char path[64];
  char name[16] = "";
  snprintf(path, sizeof path, "/proc/self/task/%s/comm", tid);
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  const ssize_t size = read(file, name, sizeof name);
  close(file);
  return size == 10 && memcmp(name, "profagent\n", 10) == 0;
}

static void look_for_the_agent(void) {
  _Alignas(struct entry) char entries[4096];
  const int folder = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  long size;
  while ((size = syscall(SYS_getdents64, folder, entries, sizeof entries)) > 0) {
    for (long at = 0; at < size;) {
      const struct entry* entry = (const struct entry*)(const void*)(entries + at);
      if (is_the_agents(entry->name)) say("the agent's thread is here\n");
      at += entry->length;
    }
  }
  close(folder);
}

int prctl(int option, ...) {
  va_list arguments;
  va_start(arguments, option);
  const unsigned long a = va_arg(arguments, unsigned long);
  const unsigned long b = va_arg(arguments, unsigned long);
  const unsigned long c = va_arg(arguments, unsigned long);
  const unsigned long d = va_arg(arguments, unsigned long);
  va_end(arguments);
  if (option == PR_SET_KEEPCAPS) look_for_the_agent();
  return (int)syscall(SYS_prctl, option, a, b, c, d);
}
