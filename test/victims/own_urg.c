// Single-threaded, allocates nothing, and handles SIGURG itself, by sigaction or signal (argument). Says how
// often its handler ran, after each command.
#include <signal.h>
#include <stdio.h>

#include "test/victims/kit.h"

static volatile sig_atomic_t handled;

static void on_urgent(int number) {
  (void)number;
  ++handled;
}

int main(int argc, char** argv) {
  if (argc > 1 && strcmp(argv[1], "signal") == 0) {
    signal(SIGURG, on_urgent);
  } else {
    struct sigaction action = {0};
    action.sa_handler = on_urgent;
    action.sa_flags = SA_RESTART;
    sigaction(SIGURG, &action, NULL);
  }
  char command[64];
  say("ready\n");
  while (await_command(command, sizeof command)) {
    char line[32];
    snprintf(line, sizeof line, "handled %d done\n", (int)handled);
    say(line);
  }
  return 0;
}
