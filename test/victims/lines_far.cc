// Part of lines_lib.cc's library that only link-time optimization can inline.
#include "test/victims/lines_lib.h"

int lines::far_away(int line) {
  note({"_ZN5lines8far_awayEi", __LINE__}, {"lines_run", line});
  return line + 1;
}
