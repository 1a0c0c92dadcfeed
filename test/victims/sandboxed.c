// One thread, which at the command "filter" forbids itself all system calls but those that it makes: to read
// commands, to answer, and to end. At "refused" it tries to with a filter that the kernel does not take; at
// "child" the child of a vfork() does.
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/victims/filter.h"
#include "test/victims/kit.h"

static struct sock_filter instructions[] = {
    LOAD_NUMBER, ALLOW(SYS_read), ALLOW(SYS_write), ALLOW(SYS_exit_group), KILL_ALL_ELSE,
};

int main(void) {
  char command[64];
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  say("ready\n");
  while (await_command(command, sizeof command)) {
    struct sock_fprog filter = {sizeof instructions / sizeof *instructions, instructions};
    if (strcmp(command, "refused") == 0) filter.len = 0;
    if (strcmp(command, "child") == 0) {
      const pid_t child = vfork();
      if (child == 0) {
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
        _exit(0);
      }
      waitpid(child, NULL, 0);
    } else if (strcmp(command, "allocate") != 0)
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
    free(malloc(64));
    say("done\n");
  }
  _exit(0);
}
