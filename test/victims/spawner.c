// Children by vfork and posix_spawn share our memory for a moment. Afterwards our own allocations must still
// count. "fds": starts `ls` on its own descriptors.
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "test/victims/kit.h"

extern char** environ;
static void* kept[512];
static int kept_count;

NOINLINE void between_children(void) {
  kept[kept_count++] = malloc(19937);
  END_OF_FRAME();
}

static void wait_for(pid_t child) {
  int status = 0;
  if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
    say("a child failed\n");
}

static void spawn(char* const* argv) {
  pid_t child = 0;
  if (posix_spawnp(&child, argv[0], NULL, NULL, argv, environ) != 0) say("posix_spawn failed\n");
  wait_for(child);
}

int main(int argc, char** argv) {
  if (argc > 1 && strcmp(argv[1], "fds") == 0) {
    char* const list[] = {"ls", "-l", "/proc/self/fd", NULL};
    spawn(list);
    return 0;
  }
  for (int i = 0; i < 50; ++i) {
    between_children();
    const pid_t child = vfork();  // NOLINT(clang-analyzer-security.insecureAPI.vfork)
    if (child == 0) {
      execl("/bin/true", "true", (char*)NULL);
      _exit(1);
    }
    wait_for(child);
    between_children();
    char* const command[] = {"true", NULL};
    spawn(command);
  }
  serve_until_end();
  return 0;
}
