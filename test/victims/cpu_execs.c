// Becomes itself by exec, again and again, each time in the middle of a CPU profile of its own at 1000 Hz:
// asks the agent's Unix socket for one (first argument), waits until there are timers, burns for some ticks,
// and executes itself. A signal that comes late would kill the new program. Second argument: how often. With
// a third argument it asks for where its threads stand instead, and does not wait.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

static const char kProfile[] =
    "GET /debug/pprof/profile?seconds=30&hz=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
static const char kThreads[] = "GET /debug/pprof/goroutine HTTP/1.1\r\nHost: localhost\r\n\r\n";

NOINLINE void* burn_for_ever(void* unused) {
  for (;;) burn(1000000);
  return unused;
}

// Closed by exec, like the client it stands for.
static int ask(const char* path, const char* request) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, (struct sockaddr*)&address, sizeof address) != 0) return 0;
  return write(fd, request, strlen(request)) == (ssize_t)strlen(request);
}

// -1 where the kernel does not tell (it was built without CONFIG_CHECKPOINT_RESTORE).
static int has_timers(void) {
  const int fd = open("/proc/self/timers", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  char text[4096] = "";
  if (read(fd, text, sizeof text - 1) < 0) text[0] = '\0';
  close(fd);
  return strstr(text, "signal/tid.") != NULL;
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const int left = atoi(argv[2]);
  // The new program's threads are counted from one again: exec ends all others.
  pthread_t thread;
  pthread_create(&thread, NULL, burn_for_ever, NULL);
  if (left == 0) {
    say("survived\n");
    _exit(0);
  }
  char path[108];
  snprintf(path, sizeof path, "%s/%d.sock", argv[1], (int)getpid());
  if (!ask(path, argc > 3 ? kThreads : kProfile)) {
    char line[64];
    snprintf(line, sizeof line, "no agent: %s\n", strerrorname_np(errno));
    say(line);
    _exit(1);
  }
  for (int i = 0; argc == 3 && i < 40000 && has_timers() == 0; ++i) usleep(500);
  if (argc == 3 && has_timers() == 0) {
    say("no timers\n");
    _exit(1);
  }
  // Of a question about threads any part may be cut off.
  burn(argc == 3 ? 10000000 : (unsigned)(left % 16) * 1000000);
  char next[16];
  snprintf(next, sizeof next, "%d", left - 1);
  execl(argv[0], argv[0], argv[1], next, argv[3], (char*)NULL);
  _exit(3);
}
