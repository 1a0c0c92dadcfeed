#include "agent/service/line_helper_start.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <new>

#include <fcntl.h>
#include <linux/prctl.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "agent/safe/sys.h"
#include "agent/service/fd_table.h"

namespace profagent::service {

namespace {

namespace sys = safe::sys;
using sys::address_of;

[[noreturn]] void end_process() noexcept {
  for (;;) sys::call(SYS_exit_group, 0);
}

// A process that shares our memory and runs `body` on its own stack. Its id, or a negative errno.
template <typename Argument>
long clone_process(unsigned long flags, std::byte* stack_end, void (*body)(Argument*) noexcept,
                   Argument* argument) noexcept {
  long result = 0;
  register long r10 asm("r10") = 0;
  register long r8 asm("r8") = 0;
  register auto r12 asm("r12") = argument;
  register auto r13 asm("r13") = body;
  asm volatile(
      "syscall\n\t"
      "testq %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xorl %%ebp, %%ebp\n\t"
      "movq %%r12, %%rdi\n\t"
      "callq *%%r13\n\t"
      "hlt\n"
      "1:"
      : "=a"(result)
      : "a"(SYS_clone), "D"(flags | CLONE_VM), "S"(stack_end), "d"(0), "r"(r10), "r"(r8), "r"(r12), "r"(r13)
      : "rcx", "r11", "memory");
  return result;
}

// Orphans come to the nearest ancestor that has asked for them, or to process 1.
bool gets_orphans() noexcept {
  int is_reaper = 0;
  sys::call(SYS_prctl, PR_GET_CHILD_SUBREAPER, address_of(&is_reaper));
  return is_reaper != 0 || sys::getpid() == 1;
}

}  // namespace

int HelperStart::begin(int library, int socket, std::uint64_t memory) noexcept {
  // Valgrind has no vDSO, and ends the program for a clone like ours.
  if (getauxval(AT_SYSINFO_EHDR) == 0) return ENOSYS;
  shared_.reset(new (std::nothrow) Shared);
  if (shared_ == nullptr) return ENOMEM;
  shared_->library = library;
  shared_->socket = socket;
  shared_->memory = memory;
  shared_->program = sys::getpid();
  shared_->stays = gets_orphans();
  // A handler of the program's must not run in another process.
  const sys::SignalsBlocked blocked;
  const long between = clone_process(0, shared_->stack + kStackBytes, run_between, shared_.get());
  if (between < 0) return static_cast<int>(-between);
  between_ = static_cast<pid_t>(between);
  return 0;
}

// From here to the execution: system calls alone, on memory that is ours.
void HelperStart::run_between(Shared* shared) noexcept {
  // Of our thread's end, not only the program's.
  sys::call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
  if (sys::call(SYS_getppid) != shared->program) end_process();
  static constexpr char kName[] = "profagent-start";
  sys::call(SYS_prctl, PR_SET_NAME, address_of(kName));

  // Out of the way first; they may have any numbers. The table is a copy.
  constexpr long kFirstFree = 10;
  const long library = sys::call(SYS_fcntl, shared->library, F_DUPFD_CLOEXEC, kFirstFree);
  const long socket = sys::call(SYS_fcntl, shared->socket, F_DUPFD_CLOEXEC, kFirstFree);
  if (library < 0 || socket < 0 || sys::call(SYS_dup2, socket, 0) < 0) {
    shared->error = EMFILE;
    end_process();
  }
  shared->library = static_cast<int>(library);
  const int kept[] = {0, shared->library};
  close_other_fds(kept);

  const long helper =
      clone_process(CLONE_VFORK | SIGCHLD, shared->helper_stack + kStackBytes, run_helper, shared);
  if (helper < 0) shared->error = static_cast<int>(-helper);
  if (helper < 0 || !shared->stays) end_process();
  shared->helper = static_cast<pid_t>(helper);
  sys::call(SYS_close, 0);
  sys::call(SYS_close, library);
  while (sys::call(SYS_wait4, helper, 0, 0, 0) == -EINTR) {
  }
  shared->helper = 0;
  end_process();
}

void HelperStart::run_helper(Shared* shared) noexcept {
  if (shared->stays) sys::call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
  // For good: what the helper reads may have taken it over.
  rlimit64 memory = {};
  sys::call(SYS_prlimit64, 0, RLIMIT_DATA, 0, address_of(&memory));
  memory.rlim_max = std::min<rlim64_t>(memory.rlim_max, shared->memory);
  memory.rlim_cur = memory.rlim_max;
  sys::call(SYS_prlimit64, 0, RLIMIT_DATA, address_of(&memory), 0);
  static constexpr const char* kArguments[] = {"profagent", "--symbolize", nullptr};
  static constexpr const char* kEnvironment[] = {nullptr};
  const long failed = sys::call(SYS_execveat, shared->library, address_of(""), address_of(kArguments),
                                address_of(kEnvironment), AT_EMPTY_PATH);
  shared->error = static_cast<int>(-failed);
  end_process();
}

bool HelperStart::is_over() noexcept {
  if (between_ == 0) return true;
  const long reaped = sys::call(SYS_wait4, between_, 0, __WCLONE | WNOHANG, 0);
  // -ECHILD: in the child of a fork it never was ours.
  if (reaped != between_ && reaped != -ECHILD) return false;
  between_ = 0;
  return true;
}

void HelperStart::kill() noexcept {
  const pid_t helper = shared_ == nullptr ? 0 : shared_->helper.load();
  // Its number is not given to others before its parent has asked for its end.
  if (helper != 0) sys::call(SYS_kill, helper, SIGKILL);
}

HelperStart::~HelperStart() {
  if (!is_over()) static_cast<void>(shared_.release());
}

}  // namespace profagent::service
