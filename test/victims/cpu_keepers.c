// What a signal handler must leave alone, watched by loops that never call the system: errno, the flags and
// registers of floating point and vectors, the red zone below the stack pointer. Every change is counted.
// Command "report".
#include <errno.h>
#include <fenv.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

enum { kSentinel = 77 };
static unsigned long errno_changed, numbers_changed, red_zone_changed, rounds;

NOINLINE void* keep_errno(void* unused) {
  name_thread("errno");
  errno = kSentinel;
  for (;;) {
    spin(100);
    if (errno != kSentinel) ++errno_changed;
    errno = kSentinel;
    __atomic_add_fetch(&rounds, 1, __ATOMIC_RELAXED);
  }
  return unused;
}

// The same sums with the same rounding, again and again.
NOINLINE double sum(void) {
  double total = 0.1;
  long double wide = 0.1L;
  for (int i = 1; i < 2000; ++i) {
    total += 1.0 / i;
    wide = wide * 0.999L + 1.0L / (long double)i;
  }
  return total + (double)wide;
}

NOINLINE void* keep_numbers(void* unused) {
  name_thread("numbers");
  fesetround(FE_UPWARD);
  feclearexcept(FE_ALL_EXCEPT);
  const double first = sum();
  for (;;) {
    if (sum() != first || fegetround() != FE_UPWARD || fetestexcept(FE_INVALID) != 0) ++numbers_changed;
  }
  return unused;
}

// keep_red_zone_for(turns): writes patterns into the 128 bytes below the stack pointer, spins, and returns
// how many of them are still there.
extern long keep_red_zone_for(long turns);
__asm__(
    ".text\n"
    ".globl keep_red_zone_for\n"
    ".type keep_red_zone_for, @function\n"
    "keep_red_zone_for:\n"
    "  mov $0x5a5a5a5a5a5a5a5a, %rdx\n"
    "  mov $-16, %rcx\n"
    "1:\n"
    "  mov %rdx, (%rsp,%rcx,8)\n"
    "  inc %rcx\n"
    "  jnz 1b\n"
    "2:\n"
    "  dec %rdi\n"
    "  jnz 2b\n"
    "  xor %eax, %eax\n"
    "  mov $-16, %rcx\n"
    "3:\n"
    "  cmp %rdx, (%rsp,%rcx,8)\n"
    "  jne 4f\n"
    "  inc %rax\n"
    "4:\n"
    "  inc %rcx\n"
    "  jnz 3b\n"
    "  ret\n"
    ".size keep_red_zone_for, .-keep_red_zone_for\n");

NOINLINE void* keep_red_zone(void* unused) {
  name_thread("red zone");
  for (;;)
    if (keep_red_zone_for(10000) != 16) ++red_zone_changed;
  return unused;
}

int main(void) {
  pthread_t threads[3];
  pthread_create(&threads[0], NULL, keep_errno, NULL);
  pthread_create(&threads[1], NULL, keep_numbers, NULL);
  pthread_create(&threads[2], NULL, keep_red_zone, NULL);
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    char line[128];
    snprintf(line, sizeof line, "errno %lu numbers %lu red zone %lu\n", errno_changed, numbers_changed,
             red_zone_changed);
    say(line);
    say("done\n");
  }
  exit(rounds == 0);
}
