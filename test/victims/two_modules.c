// Allocates through a library that is then unloaded: its frames must keep their names. Command "unload"
// unloads it; "other" loads another library, which may get the same addresses, and allocates through that
// one.
#include <dlfcn.h>
#include <stdlib.h>

#include "test/victims/kit.h"

static void* library;

NOINLINE void through_library(const char* file, const char* function) {
  library = dlopen(file, RTLD_NOW);
  if (library == NULL) {
    say(dlerror());
    _exit(1);
  }
  void (*allocate)(void) = (void (*)(void))dlsym(library, function);
  allocate();
  END_OF_FRAME();
}

int main(void) {
  through_library("libmodule_a.so", "in_module_a");
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    if (strcmp(command, "unload") == 0) dlclose(library);
    if (strcmp(command, "other") == 0) through_library("libmodule_b.so", "in_module_b");
    say("done\n");
  }
  return 0;
}
