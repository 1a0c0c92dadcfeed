// A plugin loaded with RTLD_DEEPBIND binds to libc's malloc directly: blocks cross between it and us in both
// directions.
#include <dlfcn.h>
#include <stdlib.h>

#include "test/victims/kit.h"

NOINLINE void host_home(void (*give)(void*)) {
  give(malloc(1999969));
  END_OF_FRAME();
}

int main(void) {
  void* plugin = dlopen("libplugin.so", RTLD_NOW | RTLD_DEEPBIND);
  if (plugin == NULL) {
    say(dlerror());
    return 1;
  }
  void* (*plugin_alloc)(size_t) = (void* (*)(size_t))dlsym(plugin, "plugin_alloc");
  void (*plugin_free)(void*) = (void (*)(void*))dlsym(plugin, "plugin_free");
  for (int i = 0; i < 1000; ++i) {
    free(plugin_alloc(100));
    free(realloc(plugin_alloc(100), 5000));
    plugin_free(malloc(100));
  }
  host_home(plugin_free);
  serve_until_end();
  return 0;
}
