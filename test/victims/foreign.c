// Calls functions that are not libc's, but have their names, and says what they answer; and usleep(), which
// is libc's.
#include "test/victims/foreign_lib.h"

#include <stdio.h>

#include "test/victims/kit.h"

// While the program is relocated, before anybody has allocated or run a constructor: the first call resolves
// all, so it has arguments everywhere.
static double first_wait;
static int chosen(void) {
  return 1;
}
static int (*choose(void))(void) {
  first_wait = own_wait("ididdddddddi", 1, 2.5, 3, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 10.5, 11.5, 12);
  return chosen;
}
static int choice(void) __attribute__((ifunc("choose")));

static void tell(const char* when, struct Answers answers) {
  char line[160];
  snprintf(line, sizeof line, "%s: %.1f %.1f %ld %.1f %.1f %ld %ld %ld\n", when, answers.pause, answers.wait,
           answers.select, answers.flock, answers.mutex, answers.msgrcv.parts[0], answers.msgrcv.parts[3],
           answers.msgrcv.parts[5]);
  say(line);
}

int main(void) {
  char line[96];
  snprintf(line, sizeof line, "first: %.1f %d\n", first_wait, choice());
  say(line);
  tell("early", early);
  tell("later", CALL_ALL());
  if (usleep(1000) != 0) say("no usleep\n");
  serve_until_end();
  return 0;
}
