#include "hooks/entries.h"

#include "hooks/export.h"

// The parameters are libc's; what a caller has given is not looked at.
#pragma GCC diagnostic ignored "-Wunused-parameter"

namespace profagent::hooks {

extern "C" {

// Resolves, and keeps all registers in which a call may have arguments; its caller is a stub.
[[gnu::used, gnu::visibility("hidden")]] __attribute__((naked)) void profagent_resolve_for_entry() {
  asm("push %rbp\n\t"
      ".cfi_adjust_cfa_offset 8\n\t"
      ".cfi_rel_offset %rbp, 0\n\t"
      "mov %rsp, %rbp\n\t"
      ".cfi_def_cfa_register %rbp\n\t"
      "push %rdi\n\t"
      "push %rsi\n\t"
      "push %rdx\n\t"
      "push %rcx\n\t"
      "push %r8\n\t"
      "push %r9\n\t"
      "push %rax\n\t"
      "push %r10\n\t"
      "sub $136, %rsp\n\t"  // aligned: two return addresses and nine registers lie above
      "movaps %xmm0, (%rsp)\n\t"
      "movaps %xmm1, 16(%rsp)\n\t"
      "movaps %xmm2, 32(%rsp)\n\t"
      "movaps %xmm3, 48(%rsp)\n\t"
      "movaps %xmm4, 64(%rsp)\n\t"
      "movaps %xmm5, 80(%rsp)\n\t"
      "movaps %xmm6, 96(%rsp)\n\t"
      "movaps %xmm7, 112(%rsp)\n\t"
      "call _ZN9profagent5hooks4real7resolveEv\n\t"
      "movaps (%rsp), %xmm0\n\t"
      "movaps 16(%rsp), %xmm1\n\t"
      "movaps 32(%rsp), %xmm2\n\t"
      "movaps 48(%rsp), %xmm3\n\t"
      "movaps 64(%rsp), %xmm4\n\t"
      "movaps 80(%rsp), %xmm5\n\t"
      "movaps 96(%rsp), %xmm6\n\t"
      "movaps 112(%rsp), %xmm7\n\t"
      "add $136, %rsp\n\t"
      "pop %r10\n\t"
      "pop %rax\n\t"
      "pop %r9\n\t"
      "pop %r8\n\t"
      "pop %rcx\n\t"
      "pop %rdx\n\t"
      "pop %rsi\n\t"
      "pop %rdi\n\t"
      "pop %rbp\n\t"
      ".cfi_def_cfa %rsp, 8\n\t"
      "ret");
}

#define PROFAGENT_HOOK(name, result, parameters, arguments, fallback)
#define PROFAGENT_WAIT_HOOK(name, result, parameters, arguments) \
  PROFAGENT_EXPORT(name)                                         \
  __attribute__((naked)) result name parameters {                \
    asm("jmp *%0" : : "m"(entry::name));                         \
  }
#include "hooks/table.def"
#undef PROFAGENT_HOOK

}  // extern "C"

namespace {

#define PROFAGENT_HOOK(name, result, parameters, arguments, fallback)
#define PROFAGENT_WAIT_HOOK(name, result, parameters, arguments) \
  __attribute__((naked)) result resolve_then_##name parameters { \
    asm("call profagent_resolve_for_entry\n\t"                   \
        "jmp *%0"                                                \
        :                                                        \
        : "m"(entry::name));                                     \
  }
#include "hooks/table.def"
#undef PROFAGENT_HOOK

}  // namespace

namespace entry {

#define PROFAGENT_HOOK(name, result, parameters, arguments, fallback)
#define PROFAGENT_WAIT_HOOK(name, result, parameters, arguments) \
  constinit std::add_pointer_t<result parameters> name = resolve_then_##name;
#include "hooks/table.def"
#undef PROFAGENT_HOOK

}  // namespace entry

}  // namespace profagent::hooks
