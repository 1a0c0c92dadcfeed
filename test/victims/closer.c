// Closes every descriptor above 2, as daemons do, opens twenty files that now have those numbers, and checks
// at the end that nobody else wrote into or read from them. First argument: a folder. "--late": at the first
// command, not at the start.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "test/victims/kit.h"

enum { kFiles = 20 };
static const char kText[] = "the host's own bytes\n";

static int files[kFiles];

static void close_and_open(const char* folder) {
  closefrom(3);
  for (int i = 0; i < kFiles; ++i) {
    char path[512];
    snprintf(path, sizeof path, "%s/file%d", folder, i);
    files[i] = open(path, O_CREAT | O_RDWR | O_TRUNC, 0600);
    if (files[i] != 3 + i) say("descriptors are not the lowest free ones\n");
    if (write(files[i], kText, sizeof kText - 1) < 0) _exit(1);
  }
}

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const int is_late = argc > 2 && strcmp(argv[2], "--late") == 0;
  if (!is_late) close_and_open(argv[1]);
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    if (files[0] == 0) close_and_open(argv[1]);
    free(malloc(100000));
    say("done\n");
  }
  for (int i = 0; i < kFiles; ++i) {
    char text[256] = "";
    if (lseek(files[i], 0, SEEK_CUR) != sizeof kText - 1) say("an offset moved\n");
    if (pread(files[i], text, sizeof text, 0) != sizeof kText - 1 || strcmp(text, kText) != 0)
      say("bytes changed\n");
    if (close(files[i]) != 0) say("a descriptor was closed by somebody\n");
  }
  return 0;
}
