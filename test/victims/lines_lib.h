// Places whose source lines are known because they wrote them down.
#pragma once

namespace lines {

struct Frame {
  const char* function = nullptr;  // the linker's name; null: no more frames
  int line = 0;
};

// A call and the functions that it lies in, the innermost inlined one first.
struct Place {
  const void* return_address = nullptr;
  Frame frames[4];
};

// Writes one down: the place that it was called from.
[[gnu::noinline]] void note(Frame inner, Frame middle = {}, Frame outer = {});

// In another source file; inlined by the linker or not at all.
int far_away(int line);

}  // namespace lines
