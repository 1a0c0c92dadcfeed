// Touches 100 MB and, with a thread that burns, forks ten children; each executes a program. A fork that
// fails, a wait that is interrupted, or a child that does not end well is reported. Command "fork" does it
// once more. Argument "burning": says nothing of that; the process is its own child and burns for 50 ms.
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

static const size_t kTouched = 100 << 20;

NOINLINE void* burn_meanwhile(void* unused) {
  name_thread("meanwhile");
  for (;;) spin_a_while();
  return unused;
}

NOINLINE void burn_in_child(void) {
  burn(50000000);
  END_OF_FRAME();
}

static void complain(const char* what) {
  char line[96];
  snprintf(line, sizeof line, "problem: %s: %s\n", what, strerror(errno));
  say(line);
}

static void fork_and_execute(const char* self, int burns) {
  const pid_t child = fork();
  if (child == 0) {
    if (!burns) execl("/bin/true", "true", (char*)NULL);
    execl(self, self, "burning", (char*)NULL);
    _exit(9);
  }
  if (child < 0) return complain("fork");
  int status = 0;
  if (waitpid(child, &status, 0) != child) return complain("waitpid");
  errno = 0;
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) complain("a child did not end well");
}

int main(int argc, char** argv) {
  if (argc > 1 && strcmp(argv[1], "burning") == 0) {
    burn_in_child();
    return 0;
  }
  char* block = mmap(NULL, kTouched, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) return 1;
  memset(block, 1, kTouched);
  pthread_t thread;
  pthread_create(&thread, NULL, burn_meanwhile, NULL);
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    for (int i = 0; i < 10; ++i) fork_and_execute(argv[0], i % 2);
    say("done\n");
  }
  exit(0);
}
