// Marks a hook, in front of its definition: PROFAGENT_EXPORT(malloc) void* malloc(…). The library is compiled
// with hidden visibility and its version script makes everything local, so that what is exported is exactly
// what is marked.
//
// A hook stands in for every version that a program may ask for, by being bound to the base version ("@@"
// with nothing behind it). Where two versions of a function are two functions, each gets its hook.
#pragma once

#define PROFAGENT_EXPORT(name) PROFAGENT_EXPORT_AS(name, #name "@@")

// `versioned` as in "pthread_cond_wait@GLIBC_2.2.5". The plain name is removed: the linker would export it as
// well, under libc's version of it.
#define PROFAGENT_EXPORT_AS(function, versioned)       \
  asm(".symver " #function ", " versioned ", remove"); \
  __attribute__((visibility("default")))
