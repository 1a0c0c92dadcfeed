// One thread for each kind of wait with a timeout. Each burns a little, so that its CPU timer may expire at
// any moment of going to sleep, and then waits for something that does not come. A wait that ends early, or
// by anything but its timeout, is counted. One thread more writes 4 MiB into a pipe, again and again, whose
// other end is emptied slowly; a write that moves less is counted as interrupted. Command "report" prints a
// line for each kind: name, rounds, interrupted, early, other errors.
#include "test/victims/wait_kinds.h"

static struct Count { unsigned long rounds, interrupted, early, other; } counts[kWaitCount], writes;

static struct Things things[kWaitCount];
static int stop;

static int is_stopped(void) {
  return __atomic_load_n(&stop, __ATOMIC_RELAXED);
}

NOINLINE void* wait_often(void* argument) {
  const long kind = (long)argument;
  struct Count* count = &counts[kind];
  uint64_t random = 88172645463325252u + (uint64_t)kind;
  while (!is_stopped()) {
    burn(next_random(&random) % 1000000);
    const uint64_t begin = clock_nanos(CLOCK_MONOTONIC);
    const int error = kWaits[kind].wait(&things[kind]);
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

static int channel[2];
enum { kWritten = 4 << 20 };

NOINLINE void* write_much(void* unused) {
  static char bytes[kWritten];
  while (!is_stopped()) {
    const ssize_t written = write(channel[1], bytes, sizeof bytes);
    ++writes.rounds;
    if (written != kWritten) ++writes.interrupted;
  }
  close(channel[1]);
  return unused;
}

NOINLINE void* read_slowly(void* unused) {
  static char bytes[64 << 10];
  while (read(channel[0], bytes, sizeof bytes) > 0) spin(20000);
  return unused;
}

static void report(const char* name, const struct Count* count) {
  char line[128];
  snprintf(line, sizeof line, "%s %lu %lu %lu %lu\n", name, count->rounds, count->interrupted, count->early,
           count->other);
  say(line);
}

int main(void) {
  pthread_t threads[kWaitCount + 2];
  // by_sigtimedwait() waits for it.
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  sigprocmask(SIG_BLOCK, &set, NULL);
  for (long i = 0; i < kWaitCount; ++i) {
    if (!make_things(&things[i])) return 1;
    pthread_create(&threads[i], NULL, wait_often, (void*)i);
  }
  if (pipe(channel) != 0) return 1;
  pthread_create(&threads[kWaitCount], NULL, write_much, NULL);
  pthread_create(&threads[kWaitCount + 1], NULL, read_slowly, NULL);
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    for (int i = 0; i < kWaitCount; ++i) report(kWaits[i].name, &counts[i]);
    report("write", &writes);
    say("done\n");
  }
  __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
  for (int i = 0; i < kWaitCount + 2; ++i) pthread_join(threads[i], NULL);
  for (int i = 0; i < kWaitCount; ++i) remove_things(&things[i]);
  return 0;
}
