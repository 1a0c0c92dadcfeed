// Stacks of a given depth for the CPU benchmarks: 32 functions with frames of different sizes, called through
// a table, so that nothing is inlined and no return address predicts the next.
//
// A path decides which function stands at which level. Paths agree in the levels from `shared_above` on, the
// leaf being level 0: the part of a stack that does not change from one sample to the next.
#pragma once

#include <cstdint>

namespace deep_stack {

struct Descent {
  std::uint32_t path;
  unsigned shared_above;
  void (*leaf)(void*);
  void* argument;
};

using Frame = void (*)(unsigned level, const Descent& descent);
constexpr unsigned kFunctions = 32;
[[nodiscard]] Frame frame_number(unsigned index);

inline unsigned function_at(unsigned level, const Descent& descent) {
  std::uint32_t mixed = level * 0x9e3779b1U;
  if (level < descent.shared_above) mixed ^= (descent.path + 1) * 0x85ebca77U;
  mixed ^= mixed >> 15U;
  return (mixed * 0xc2b2ae3dU) >> 27U;
}

template <int kIndex>
[[gnu::noinline]] void frame(unsigned level, const Descent& descent) {
  volatile char room[8 + 16 * kIndex];
  room[0] = static_cast<char>(level);
  if (level == 0) {
    descent.leaf(descent.argument);
  } else {
    frame_number(function_at(level - 1, descent))(level - 1, descent);
  }
  room[1] = room[0];  // not a tail call
}

inline constexpr Frame kFrames[kFunctions] = {
    frame<0>,  frame<1>,  frame<2>,  frame<3>,  frame<4>,  frame<5>,  frame<6>,  frame<7>,
    frame<8>,  frame<9>,  frame<10>, frame<11>, frame<12>, frame<13>, frame<14>, frame<15>,
    frame<16>, frame<17>, frame<18>, frame<19>, frame<20>, frame<21>, frame<22>, frame<23>,
    frame<24>, frame<25>, frame<26>, frame<27>, frame<28>, frame<29>, frame<30>, frame<31>};

inline Frame frame_number(unsigned index) {
  return kFrames[index];
}

// Calls leaf(argument) below `levels` frames.
inline void descend(unsigned levels, const Descent& descent) {
  kFrames[function_at(levels - 1, descent)](levels - 1, descent);
}

}  // namespace deep_stack
