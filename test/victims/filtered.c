// A thread that puts itself under a system call filter and then only computes: any call of a signal handler
// in it, but the return, ends the process. Another thread burns freely. The thread does so at the command
// "prctl" or "seccomp", by that function or system call.
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "test/victims/burn.h"
#include "test/victims/filter.h"
#include "test/victims/kit.h"

enum Way { kNone, kPrctl, kSeccomp };
static int way;

static struct sock_filter instructions[] = {
    LOAD_NUMBER,
    ALLOW(SYS_rt_sigreturn),
    ALLOW(SYS_exit_group),
    KILL_ALL_ELSE,
};

NOINLINE void compute_in_prison(void) {
  for (;;) {
    spin(1000000);
    // From what this thread has had before: libc asks the kernel for nothing.
    free(malloc(64));
  }
}

NOINLINE void compute_free(void) {
  spin(100000);
}

NOINLINE void* go_to_prison(void* unused) {
  name_thread("prisoner");
  free(malloc(64));
  int chosen = kNone;
  while ((chosen = __atomic_load_n(&way, __ATOMIC_ACQUIRE)) == kNone) compute_free();
  const struct sock_fprog filter = {sizeof instructions / sizeof *instructions, instructions};
  if (chosen == kPrctl) prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
  if (chosen == kSeccomp) syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter);
  __atomic_store_n(&way, kNone, __ATOMIC_RELEASE);
  compute_in_prison();
  return unused;
}

NOINLINE void* burn_for_ever(void* unused) {
  name_thread("free");
  for (;;) {
    spin_a_while();
    // The agent's thread, which ends for such calls, comes back with an allocation of this thread.
    free(malloc(10000));
  }
  return unused;
}

int main(void) {
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  pthread_t threads[2];
  pthread_create(&threads[0], NULL, go_to_prison, NULL);
  pthread_create(&threads[1], NULL, burn_for_ever, NULL);
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    __atomic_store_n(&way, strcmp(command, "prctl") == 0 ? kPrctl : kSeccomp, __ATOMIC_RELEASE);
    while (__atomic_load_n(&way, __ATOMIC_ACQUIRE) != kNone) usleep(1000);
    say("done\n");
  }
  exit(0);
}
