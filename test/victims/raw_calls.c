// System calls by syscall(), which takes as many arguments as the call has. Where a seventh would be lies
// what is its caller's: here a page that can be read only. Says what each call answers.
#include <errno.h>
#include <linux/futex.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "test/victims/kit.h"

enum { kStackSize = 256 * 1024, kEdgeSize = 64 * 1024, kMark = 4711 };

static int word = 1;

static void tell(const char* name, long answer) {
  char line[96];
  snprintf(line, sizeof line, "%s: %ld, errno %d\n", name, answer, errno);
  say(line);
  errno = kMark;
}

// Calls syscall() with the stack's end at `edge`: right above its return address.
NOINLINE static long call_at(void* edge, long number, long a, long b, long c) {
  register long d __asm__("r8") = 0;
  long answer;
  __asm__ volatile(
      "mov %%rsp, %%r12\n\t"
      "mov %[edge], %%rsp\n\t"
      "call syscall@PLT\n\t"
      "mov %%r12, %%rsp"
      : "=a"(answer), "+D"(number), "+S"(a), "+d"(b), "+c"(c), "+r"(d)
      : [edge] "r"(edge)
      : "r9", "r10", "r11", "r12", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "memory",
        "cc");
  return answer;
}

static void at_an_edge(void) {
  char* stack =
      mmap(NULL, kStackSize + kEdgeSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack == MAP_FAILED) exit(2);
  long* edge = (long*)(void*)(stack + kStackSize);
  *edge = kMark;
  if (mprotect(edge, kEdgeSize, PROT_READ) != 0) exit(2);
  errno = kMark;
  tell("getppid", call_at(edge, SYS_getppid, 0, 0, 0) == getppid());
  tell("close", call_at(edge, SYS_close, -1, 0, 0));
  tell("futex wait", call_at(edge, SYS_futex, (intptr_t)&word, FUTEX_WAIT_PRIVATE, 0));
  tell("futex wake", call_at(edge, SYS_futex, (intptr_t)&word, FUTEX_WAKE_PRIVATE, 1));
  tell("edge", *edge);
}

// With all that it can take, the last one arrives.
static void with_seven(void) {
  FILE* file = tmpfile();
  if (file == NULL || fseek(file, 4096, SEEK_SET) != 0 || fputs("second page", file) < 0 || fflush(file) != 0)
    exit(2);
  const char* text = (const char*)syscall(SYS_mmap, NULL, 4096L, (long)PROT_READ, (long)MAP_PRIVATE,
                                          (long)fileno(file), 4096L);
  say((intptr_t)text == -1 ? "no text" : text);
  say("\n");
  errno = kMark;
  tell("no bits", syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, 0));
  tell("a bit", syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, 1));
}

int main(void) {
  at_an_edge();
  with_seven();
  serve_until_end();
  return 0;
}
