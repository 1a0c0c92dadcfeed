// What every victim needs, in C and C++, without a byte of heap of its own: the tell-tale functions'
// attributes, and a conversation with the test over standard input and output ("ready", commands, "done").
#pragma once

#include <stddef.h>
#include <string.h>
#include <unistd.h>

#if defined(__clang__)
#define NOINLINE __attribute__((noinline, used))
#else
#define NOINLINE __attribute__((noinline, noclone, used))
#endif

// The compiler must believe that the block is used; without this, malloc and free pairs vanish, and so do
// tail calls' frames.
#define USE(pointer) __asm__ volatile("" : : "r"(pointer) : "memory")
#define END_OF_FRAME() __asm__ volatile("" : : : "memory")

static inline void say(const char* text) {
  size_t left = strlen(text);
  while (left > 0) {
    const ssize_t sent = write(1, text, left);
    if (sent <= 0) _exit(3);
    text += sent;
    left -= (size_t)sent;
  }
}

// Reads one command. Returns 0 at the end of input, when the test has gone or has no more to ask.
static inline int await_command(char* command, size_t size) {
  size_t length = 0;
  for (;;) {
    char byte;
    if (read(0, &byte, 1) != 1) return 0;
    if (byte == '\n') break;
    if (length + 1 < size) command[length++] = byte;
  }
  command[length] = '\0';
  return 1;
}

// Says "ready" and answers every command with "done" until the input ends.
static inline void serve_until_end(void) {
  char command[64];
  say("ready\n");
  while (await_command(command, sizeof command)) say("done\n");
}
