// A shared object can be executed when it names an interpreter and an entry point. The entry point is reached
// without libc's start-up code, which only programs are linked with.
#include "agent/helper/program_entry.h"

#include <cstdint>
#include <string_view>

#include <sys/auxv.h>
#include <unistd.h>

extern "C" {

extern const char profagent_interpreter[];
[[gnu::section(".interp"), gnu::used, gnu::retain]] const char profagent_interpreter[] =
    "/lib64/ld-linux-x86-64.so.2";

[[gnu::visibility("hidden")]] void profagent_program_entry();
[[gnu::visibility("hidden")]] int profagent_program_main(int count, char** arguments, char** environment);
}

// As glibc's own _start: the loader passes its exit function in rdx, and the stack begins with argc. The
// outermost frame is marked as such for unwinders.
asm(R"(
  .text
  .globl profagent_program_entry
  .hidden profagent_program_entry
  .type profagent_program_entry, @function
profagent_program_entry:
  .cfi_startproc
  .cfi_undefined rip
  xorl %ebp, %ebp
  movq %rdx, %r9
  popq %rsi
  movq %rsp, %rdx
  andq $-16, %rsp
  pushq %rax
  pushq %rsp
  xorl %r8d, %r8d
  xorl %ecx, %ecx
  leaq profagent_program_main(%rip), %rdi
  call *__libc_start_main@GOTPCREL(%rip)
  hlt
  .cfi_endproc
  .size profagent_program_entry, .-profagent_program_entry
)");

namespace profagent::helper {

namespace {

constexpr int kWrongUse = 2;

constexpr std::string_view kVersion = "profagent " PROFAGENT_VERSION "\n";
constexpr std::string_view kHelp =
    "profagent gives a program, unmodified, the endpoints of Go's /debug/pprof. It is a library to preload:\n"
    "\n"
    "  LD_PRELOAD=/path/to/libprofagent.so PROGRAM...\n"
    "  go tool pprof http://localhost:6060/debug/pprof/heap\n"
    "\n"
    "Run as a program, the library takes one of:\n"
    "\n"
    "  --help       shows this\n"
    "  --version    shows the version\n"
    "  --symbolize  reads debug information for the agent of another process, which starts it so\n";

void say(int descriptor, std::string_view text) noexcept {
  while (!text.empty()) {
    const ssize_t written = write(descriptor, text.data(), text.size());
    if (written <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

bool is_own_program() noexcept {
  return getauxval(AT_ENTRY) == reinterpret_cast<std::uintptr_t>(profagent_program_entry);
}

}  // namespace profagent::helper

int profagent_program_main(int count, char** arguments, char** /*environment*/) {
  using namespace profagent::helper;
  const std::string_view argument = count > 1 ? arguments[1] : "--help";
  if (count <= 2) {
    if (argument == "--symbolize") return symbolize();
    if (argument == "--help" || argument == "--version") {
      say(STDOUT_FILENO, argument == "--help" ? kHelp : kVersion);
      return 0;
    }
  }
  say(STDERR_FILENO, "profagent: not understood: ");
  say(STDERR_FILENO, count > 2 ? std::string_view(arguments[2]) : argument);
  say(STDERR_FILENO, "\nTry --help.\n");
  return kWrongUse;
}
