// Uses SIGPROF and ITIMER_PROF for itself, as PHP, CPython and gprof do. Commands:
//
//   install    a handler; says what was there before, and what is there now
//   send N     raises it N times: tgkill, and with a value; says how often the handler ran, and for what
//   timer      ITIMER_PROF every 10 ms of CPU time, while it burns for one second; likewise, and how many
//   steps the clock of
//              that timer made: of this thread, of the whole process
//   own        a timer_create() timer with a value of its own, once
//   ignore, default
//   exec       a child that says what it inherited: the action, whether SIGPROF is blocked
//
// "show" as the argument: prints just that and ends.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

static unsigned by_tgkill, by_value, by_itimer, by_own_timer, by_others;
enum { kOurValue = 4711 };

static void handle(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)context;
  if (info->si_code == SI_TKILL)
    ++by_tgkill;
  else if (info->si_code == SI_QUEUE && info->si_value.sival_int == kOurValue)
    ++by_value;
  else if (info->si_code == SI_KERNEL)
    ++by_itimer;
  else if (info->si_code == SI_TIMER && info->si_value.sival_int == kOurValue)
    ++by_own_timer;
  else
    ++by_others;
}

static const char* name_of(const struct sigaction* action) {
  if (action->sa_handler == SIG_DFL) return "default";
  if (action->sa_handler == SIG_IGN) return "ignored";
  if ((action->sa_flags & SA_SIGINFO) == 0 || action->sa_sigaction != handle) return "strange";
  // With the very flags and mask that were given.
  const int as_given = (action->sa_flags & ~0x04000000) == (SA_SIGINFO | SA_RESTART | SA_NODEFER) &&
                       sigismember(&action->sa_mask, SIGUSR1) && !sigismember(&action->sa_mask, SIGUSR2);
  return as_given ? "mine" : "changed";
}

static void set(const struct sigaction* action) {
  struct sigaction before;
  struct sigaction after;
  sigaction(SIGPROF, action, &before);
  sigaction(SIGPROF, NULL, &after);
  char line[64];
  snprintf(line, sizeof line, "%s -> %s\n", name_of(&before), name_of(&after));
  say(line);
}

static void install(void) {
  struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_RESTART | SA_NODEFER};
  sigemptyset(&action.sa_mask);
  sigaddset(&action.sa_mask, SIGUSR1);
  set(&action);
}

static void report(void) {
  char line[128];
  snprintf(line, sizeof line, "tgkill %u value %u itimer %u own %u others %u\n", by_tgkill, by_value,
           by_itimer, by_own_timer, by_others);
  say(line);
  by_tgkill = by_value = by_itimer = by_own_timer = by_others = 0;
}

// What ITIMER_PROF goes by: not exact time but whole ticks, charged to whom they hit. See CPUCLOCK_PROF in
// the kernel's include/linux/posix-timers.h for the numbers.
static const clockid_t kProcessTicks = -8;
static const clockid_t kThreadTicks = -4;

NOINLINE void burn_under_timer(void) {
  const uint64_t end = clock_nanos(kThreadTicks) + 1000000000;
  while (clock_nanos(kThreadTicks) < end) spin_a_while();
  END_OF_FRAME();
}

static void use_itimer(void) {
  const struct itimerval often = {{0, 10000}, {0, 10000}};
  const struct itimerval off = {{0, 0}, {0, 0}};
  const uint64_t process = clock_nanos(kProcessTicks);
  const uint64_t thread = clock_nanos(kThreadTicks);
  setitimer(ITIMER_PROF, &often, NULL);
  burn_under_timer();
  setitimer(ITIMER_PROF, &off, NULL);
  char line[64];
  snprintf(line, sizeof line, "steps %lu %lu\n", (clock_nanos(kThreadTicks) - thread) / 10000000,
           (clock_nanos(kProcessTicks) - process) / 10000000);
  say(line);
}

static void use_own_timer(void) {
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGPROF};
  event.sigev_value.sival_int = kOurValue;
  timer_t timer;
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) return say("no timer\n");
  const struct itimerspec once = {{0, 0}, {0, 5000000}};
  timer_settime(timer, 0, &once, NULL);
  burn(50000000);
  timer_delete(timer);
}

static void show_inherited(void) {
  struct sigaction action;
  sigaction(SIGPROF, NULL, &action);
  sigset_t mask;
  sigprocmask(SIG_BLOCK, NULL, &mask);
  char line[64];
  snprintf(line, sizeof line, "inherited %s, %s\n", name_of(&action),
           sigismember(&mask, SIGPROF) ? "blocked" : "open");
  say(line);
}

static void execute(const char* self) {
  const pid_t child = fork();
  if (child == 0) {
    execl(self, self, "show", (char*)NULL);
    _exit(1);
  }
  int status;
  waitpid(child, &status, 0);
}

int main(int argc, char** argv) {
  if (argc > 1 && strcmp(argv[1], "show") == 0) {
    show_inherited();
    return 0;
  }
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    const struct sigaction ignored = {.sa_handler = SIG_IGN};
    const struct sigaction by_default = {.sa_handler = SIG_DFL};
    int times = 0;
    if (strcmp(command, "install") == 0) install();
    if (strcmp(command, "ignore") == 0) set(&ignored);
    if (strcmp(command, "default") == 0) set(&by_default);
    if (strcmp(command, "exec") == 0) execute(argv[0]);
    if (strcmp(command, "timer") == 0) use_itimer();
    if (strcmp(command, "own") == 0) use_own_timer();
    const union sigval value = {.sival_int = kOurValue};
    if (sscanf(command, "send %d", &times) == 1)
      for (int i = 0; i < times; ++i) {
        pthread_kill(pthread_self(), SIGPROF);
        pthread_sigqueue(pthread_self(), SIGPROF, value);
      }
    if (times != 0 || strcmp(command, "timer") == 0 || strcmp(command, "own") == 0) report();
    say("done\n");
  }
  return 0;
}
