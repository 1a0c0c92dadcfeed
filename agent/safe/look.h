// A look at one word, in one comparison with memory and one jump: of an atomic load GCC makes three
// instructions, and hooks that most programs pass all the time count them. As good as a relaxed load: x86-64
// reads an aligned word at once.
#pragma once

#include <atomic>

namespace profagent::safe {

template <int kNumber>
[[nodiscard, gnu::always_inline]] inline bool equals(const int& word) noexcept {
  bool equal;
  asm volatile("cmpl %2, %1" : "=@ccz"(equal) : "m"(word), "i"(kNumber));
  return equal;
}

[[nodiscard, gnu::always_inline]] inline bool is_set(const std::atomic<bool>& flag) noexcept {
  static_assert(sizeof flag == 1);
  bool zero;
  asm volatile("cmpb $0, %1" : "=@ccz"(zero) : "m"(flag));
  return !zero;
}

}  // namespace profagent::safe
