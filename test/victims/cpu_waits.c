// One thread for each kind of wait. Each burns a little, so that its CPU timer may expire at any moment of
// going to sleep, and then waits: for something that does not come, until its timeout, or for something that
// another thread gives every few milliseconds. A wait that ends early, or by anything else, is counted. Two
// threads more write 4 MiB into a pipe and into a socket, again and again, whose other ends are emptied
// slowly; a write that moves less is counted as interrupted.
//
// Commands: "report" prints a line for each kind: name, rounds, interrupted, early, other errors. "disturb"
// does what nobody should: signals to all of them, until each that can be interrupted has been.
#include "test/victims/wait_kinds.h"

struct Count {
  unsigned long rounds, interrupted, early, other;
};
static struct Count counts[kWaitCount];

static struct Things things[kWaitCount];
static pthread_t threads[kWaitCount];
static int stop, stop_waking;

static int is_set(const int* flag) {
  return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}
static void set(int* flag, int value) {
  __atomic_store_n(flag, value, __ATOMIC_RELEASE);
}

NOINLINE void* wait_often(void* argument) {
  const long kind = (long)argument;
  struct Count* count = &counts[kind];
  struct Woken* woken = &things[kind].woken;
  woken->thread = pthread_self();
  uint64_t random = 88172645463325252u + (uint64_t)kind;
  while (!is_set(&stop)) {
    burn(next_random(&random) % 300000);
    const uint64_t begin = clock_nanos(CLOCK_MONOTONIC);
    set(&woken->is_waiting, 1);
    const int error = kWaits[kind].wait(&things[kind]);
    set(&woken->is_waiting, 0);
    const uint64_t took = clock_nanos(CLOCK_MONOTONIC) - begin;
    ++count->rounds;
    if (error == EINTR)
      ++count->interrupted;
    else if (error != ETIMEDOUT)
      ++count->other;
    else if (took < kWaits[kind].shortest)
      ++count->early;
  }
  return NULL;
}

NOINLINE void* wake_often(void* unused) {
  const struct timespec pause = timeout();
  while (!is_set(&stop_waking)) {
    nanosleep(&pause, NULL);
    for (int i = 0; i < kWaitCount; ++i) {
      struct Woken* woken = &things[i].woken;
      const Wake act = is_set(&woken->is_waiting) ? kWaits[i].wake : kWaits[i].rearm;
      if (act != NULL) act(woken);
    }
  }
  return unused;
}

enum { kWritten = 4 << 20, kChannels = 2 };
static struct Channel {
  const char* name;
  int ends[2];  // as pipe()'s
  struct Count writes;
  pthread_t writer, reader;
} channels[kChannels] = {{.name = "write"}, {.name = "send"}};

NOINLINE void* write_much(void* argument) {
  struct Channel* channel = argument;
  static char bytes[kWritten];
  const int is_socket = channel == &channels[1];
  while (!is_set(&stop)) {
    const ssize_t written = is_socket ? send(channel->ends[1], bytes, sizeof bytes, 0)
                                      : write(channel->ends[1], bytes, sizeof bytes);
    ++channel->writes.rounds;
    if (written != kWritten) ++channel->writes.interrupted;
  }
  close(channel->ends[1]);
  return NULL;
}

NOINLINE void* read_slowly(void* argument) {
  const struct Channel* channel = argument;
  char bytes[64 << 10];
  while (read(channel->ends[0], bytes, sizeof bytes) > 0) spin(20000);
  return NULL;
}

static void report(const char* name, const struct Count* count) {
  char line[128];
  snprintf(line, sizeof line, "%s %lu %lu %lu %lu\n", name, count->rounds, count->interrupted, count->early,
           count->other);
  say(line);
}

static void nothing(int number) {
  (void)number;
}

// A condition is waited for until its time is up, whatever comes in between.
static int are_all_disturbed(void) {
  for (int i = 0; i < kWaitCount; ++i)
    if (counts[i].interrupted + counts[i].early == 0 && kWaits[i].wait != by_condition) return 0;
  for (int i = 0; i < kChannels; ++i)
    if (channels[i].writes.interrupted == 0) return 0;
  return 1;
}

static void disturb(void) {
  const struct sigaction action = {.sa_handler = nothing};
  sigaction(SIGHUP, &action, NULL);
  for (int rounds = 0; rounds < 3000 && !are_all_disturbed(); ++rounds) {
    const struct timespec pause = timeout();
    nanosleep(&pause, NULL);
    for (int i = 0; i < kWaitCount; ++i) pthread_kill(threads[i], SIGHUP);
    for (int i = 0; i < kChannels; ++i) pthread_kill(channels[i].writer, SIGHUP);
  }
}

int main(void) {
  // by_sigtimedwait() waits for it.
  sigset_t set_of_one;
  sigemptyset(&set_of_one);
  sigaddset(&set_of_one, SIGUSR2);
  sigprocmask(SIG_BLOCK, &set_of_one, NULL);
  for (int i = 0; i < kWaitCount; ++i)
    if (!make_things(&things[i])) return 1;
  if (pipe(channels[0].ends) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, channels[1].ends) != 0) return 1;
  for (long i = 0; i < kWaitCount; ++i) pthread_create(&threads[i], NULL, wait_often, (void*)i);
  for (int i = 0; i < kChannels; ++i) {
    pthread_create(&channels[i].writer, NULL, write_much, &channels[i]);
    pthread_create(&channels[i].reader, NULL, read_slowly, &channels[i]);
  }
  pthread_t waker;
  pthread_create(&waker, NULL, wake_often, NULL);
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    if (strcmp(command, "disturb") == 0) disturb();
    if (strcmp(command, "report") == 0) {
      for (int i = 0; i < kWaitCount; ++i) report(kWaits[i].name, &counts[i]);
      for (int i = 0; i < kChannels; ++i) report(channels[i].name, &channels[i].writes);
    }
    say("done\n");
  }
  set(&stop, 1);
  for (int i = 0; i < kWaitCount; ++i) pthread_join(threads[i], NULL);
  for (int i = 0; i < kChannels; ++i) pthread_join(channels[i].writer, NULL);
  for (int i = 0; i < kChannels; ++i) pthread_join(channels[i].reader, NULL);
  set(&stop_waking, 1);
  pthread_join(waker, NULL);
  for (int i = 0; i < kWaitCount; ++i) remove_things(&things[i]);
  return 0;
}
