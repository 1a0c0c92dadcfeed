// A library's constructor waits, under the loader's lock, for a thread that allocates. An allocation hook
// that takes the loader's lock (dlsym, dladdr, dl_iterate_phdr) never comes back.
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

#include "test/victims/kit.h"

__attribute__((visibility("default"))) volatile unsigned long ctorhost_rounds;

static void* allocate_for_ever(void* unused) {
  for (;;) {
    void* block = malloc(1234);
    USE(block);
    free(block);
    __atomic_add_fetch(&ctorhost_rounds, 1, __ATOMIC_RELAXED);
  }
  return unused;
}

int main(int argc, char** argv) {
  pthread_t thread;
  pthread_create(&thread, NULL, allocate_for_ever, NULL);
  for (int i = 0; i < 20; ++i) {
    void* library = dlopen(argc > 1 ? argv[1] : "libctor.so", RTLD_NOW);
    if (library == NULL) {
      say(dlerror());
      return 1;
    }
    dlclose(library);
  }
  say("ok\n");
  return 0;
}
