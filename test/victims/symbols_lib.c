// A library whose functions the symbol tests ask for by address: exported, static, aliased, weak, and
// (symbols_asm.S) without a size.
#include <stddef.h>

extern const char symbols_asm_label[];
extern const char symbols_asm_after[];

__attribute__((noinline)) int symbols_exported(int x) {
  return x * 3 + 1;
}

__attribute__((noinline)) static int symbols_static(int x) {
  return x * 5 + 2;
}

// Of names for the same code: exported before local, then fewer leading underscores, then global before weak.
__attribute__((noinline)) int __symbols_many_names(int x) {
  return x * 7 + 3;
}
extern int symbols_many_names(int x) __attribute__((alias("__symbols_many_names")));
extern int a_weak_name(int x) __attribute__((weak, alias("__symbols_many_names")));

const void* symbols_address(int which) {
  switch (which) {
    case 0:
      return (const void*)symbols_exported;
    case 1:
      return (const void*)symbols_static;
    case 2:
      return (const void*)__symbols_many_names;
    case 3:
      return symbols_asm_label;
    case 4:
      return symbols_asm_after;
    default:
      return NULL;
  }
}
