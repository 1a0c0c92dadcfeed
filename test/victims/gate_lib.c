// Preloaded into the program that GATE names: keeps it before main() until a line of input comes.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "test/victims/kit.h"

__attribute__((constructor)) static void wait_for_a_line(void) {
  const char* program = getenv("GATE");
  if (program == NULL || strcmp(program, program_invocation_short_name) != 0) return;
  char line[16];
  await_command(line, sizeof line);
}
