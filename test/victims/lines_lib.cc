// A library whose calls know in which line of which functions they are.
#include "test/victims/lines_lib.h"

#define EXPORT extern "C" [[gnu::visibility("default"), gnu::noinline]]

namespace lines {

namespace {

constexpr int kMaxPlaces = 16;
Place places[kMaxPlaces];
int count = 0;

}  // namespace

void note(Frame inner, Frame middle, Frame outer) {
  if (count < kMaxPlaces) places[count++] = {__builtin_return_address(0), {inner, middle, outer, {}}};
}

[[gnu::always_inline]] inline int innermost(int middle_line, int outer_line) {
  note({"_ZN5lines9innermostEii", __LINE__}, {"_ZN5lines6middleEi", middle_line}, {"lines_run", outer_line});
  return middle_line;
}

[[gnu::always_inline]] inline int middle(int outer_line) {
  return innermost(__LINE__, outer_line) + outer_line;
}

struct Thing {
  [[gnu::noinline]] int method(int value) const;
};

int Thing::method(int value) const {
  note({"_ZNK5lines5Thing6methodEi", __LINE__});
  return value + 1;
}

}  // namespace lines

EXPORT int lines_run(int value) {
  value += lines::middle(__LINE__);
  lines::note({"lines_run", __LINE__});
  value += lines::far_away(__LINE__);
  value += lines::Thing().method(value);
  return value;
}

EXPORT const lines::Place* lines_places() {
  if (lines::count == 0) lines_run(1);
  return lines::places;
}
