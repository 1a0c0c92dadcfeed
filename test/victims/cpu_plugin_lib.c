// A library that is loaded, burns, and is unloaded.
#include "test/victims/burn.h"
#include "test/victims/kit.h"

NOINLINE void in_plugin(void) {
  burn(300000);
  END_OF_FRAME();
}

__attribute__((visibility("default"))) NOINLINE void plugin_burn(void) {
  in_plugin();
  END_OF_FRAME();
}
