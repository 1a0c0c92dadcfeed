// dlopens the library that is its first argument (the agent itself, say), then uses the heap.
#include <dlfcn.h>
#include <stdlib.h>

#include "test/victims/kit.h"

int main(int argc, char** argv) {
  void* library = dlopen(argc > 1 ? argv[1] : "libmodule_a.so", RTLD_NOW);
  say(library != NULL ? "loaded\n" : dlerror());
  for (int i = 0; i < 100; ++i) free(malloc(10000));
  say("ok\n");
  return 0;
}
