// Allocates from frames that would lead a careless stack walk astray: the frame pointer small, in an
// unreadable page, pointing to itself; a return address that returns to itself; no call-frame information; a
// stack that ends at an unreadable page; a makecontext stack; an alternate signal stack.
// "--burn": burns CPU time there instead, for ever, in a thread.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

static size_t block_size = 64;
static int burns;

__attribute__((used)) static void work_here(void) {
  if (burns) return burn(1000000);
  for (int i = 0; i < 50; ++i) {
    void* block = malloc(block_size);
    USE(block);
    free(block);
  }
}

// with_frame_pointer(value): runs work_here with rbp = value, from code without call-frame information.
extern void with_frame_pointer(unsigned long value);
// on_stack(top): runs work_here on another stack, whose last word is a zero return address.
extern void on_stack(void* top);
// returns_to_itself(): runs work_here below a frame that was "called" by an instruction at its own return
// address.
extern void returns_to_itself(void);
__asm__(
    ".text\n"
    ".globl with_frame_pointer, on_stack, returns_to_itself\n"
    ".type with_frame_pointer, @function\n"
    ".type on_stack, @function\n"
    ".type returns_to_itself, @function\n"
    "with_frame_pointer:\n"
    "  push %rbp\n"
    "  mov %rdi, %rbp\n"
    "  call work_here\n"
    "  pop %rbp\n"
    "  ret\n"
    ".size with_frame_pointer, .-with_frame_pointer\n"
    "on_stack:\n"
    "  push %rbp\n"
    "  mov %rsp, %rbp\n"
    "  push %rbx\n"
    "  mov %rsp, %rbx\n"
    "  mov %rdi, %rsp\n"
    "  xor %ebp, %ebp\n"
    "  call work_here\n"
    "  mov %rbx, %rsp\n"
    "  pop %rbx\n"
    "  pop %rbp\n"
    "  ret\n"
    ".size on_stack, .-on_stack\n"
    "returns_to_itself:\n"
    "  push %rbp\n"
    "  sub $48, %rsp\n"
    // Many frames that name the same return address, and a frame pointer that leads from one to the next and
    // round again.
    "  lea 1f(%rip), %rax\n"
    "  mov %rax, 8(%rsp)\n"
    "  mov %rax, 24(%rsp)\n"
    "  mov %rax, 40(%rsp)\n"
    "  mov %rsp, 0(%rsp)\n"
    "  mov %rsp, 16(%rsp)\n"
    "  mov %rsp, %rbp\n"
    "  call work_here\n"
    "1:\n"
    "  add $48, %rsp\n"
    "  pop %rbp\n"
    "  ret\n"
    ".size returns_to_itself, .-returns_to_itself\n");

static void on_signal(int number) {
  (void)number;
  work_here();
}

// A fault of somebody else's would come here too.
static void on_fault(int number) {
  (void)number;
  say("fault\n");
  _exit(9);
}

static ucontext_t main_context, other_context;

static void in_other_context(void) {
  work_here();
  swapcontext(&other_context, &main_context);
}

static char* pages;
enum { kPage = 4096 };

static void use_all_frames(void) {
  char* top = pages + 64 * kPage;
  with_frame_pointer(0);
  with_frame_pointer(0x80000);
  with_frame_pointer(~0UL);
  with_frame_pointer(~0UL / 2);
  with_frame_pointer((unsigned long)top);
  with_frame_pointer((unsigned long)top - 8);
  unsigned long own[2] = {0, 0};
  own[0] = (unsigned long)own;
  own[1] = (unsigned long)&with_frame_pointer;
  with_frame_pointer((unsigned long)own);
  with_frame_pointer((unsigned long)own + 1);
  // The stack's last word lies right below an unreadable page.
  on_stack(top);
  on_stack(top - 16);
  returns_to_itself();

  stack_t alternate = {.ss_sp = pages, .ss_size = 16 * kPage, .ss_flags = 0};
  sigaltstack(&alternate, NULL);
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
  sigaction(SIGUSR1, &action, NULL);
  raise(SIGUSR1);

  getcontext(&other_context);
  other_context.uc_stack.ss_sp = pages + 16 * kPage;
  other_context.uc_stack.ss_size = 16 * kPage;
  other_context.uc_link = NULL;
  makecontext(&other_context, in_other_context, 0);
  swapcontext(&main_context, &other_context);
}

static void* burn_for_ever(void* unused) {
  name_thread("hostile");
  for (;;) use_all_frames();
  return unused;
}

int main(int argc, char** argv) {
  burns = argc > 1 && strcmp(argv[1], "--burn") == 0;
  pages = mmap(NULL, 66 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(pages + 64 * kPage, 2 * kPage, PROT_NONE);
  signal(SIGSEGV, on_fault);
  signal(SIGBUS, on_fault);
  pthread_t thread;
  if (burns && pthread_create(&thread, NULL, burn_for_ever, NULL) != 0) return 1;
  if (!burns)
    for (block_size = 8; block_size < 200000; block_size *= 5) use_all_frames();
  serve_until_end();
  say("survived\n");
  exit(0);
}
