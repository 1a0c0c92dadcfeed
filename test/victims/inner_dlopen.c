// Loads a library after threads exist (its TLS, if any, is allocated lazily), and looks up names that are not
// there, which makes dlsym and dlerror allocate inside.
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

#include "test/victims/kit.h"

static void* look_up(void* unused) {
  for (int i = 0; i < 200; ++i) {
    if (dlsym(RTLD_DEFAULT, "a_name_that_is_not_there") != NULL) say("found?\n");
    if (dlerror() == NULL) say("no error?\n");
    if (dlsym(RTLD_NEXT, "malloc") == NULL) say("no malloc?\n");
    void* library = dlopen("libmodule_b.so", RTLD_NOW);
    if (library == NULL) say("cannot load\n");
    dlclose(library);
  }
  return unused;
}

int main(int argc, char** argv) {
  const int count = argc > 1 ? atoi(argv[1]) : 4;
  pthread_t threads[16];
  for (int i = 0; i < count; ++i) pthread_create(&threads[i], NULL, look_up, NULL);
  for (int i = 0; i < count; ++i) pthread_join(threads[i], NULL);
  say("ok\n");
  return 0;
}
