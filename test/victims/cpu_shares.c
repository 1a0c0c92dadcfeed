// Ten functions whose use of CPU time is known exactly: the thread's own CPU clock is read at every change
// from one to the next. They take turns in slices of random length, much shorter than a tick of the kernel,
// so that the shares hold in every window and no sampler can keep in step.
//
//   --threads N      so many threads; default 1
//   --each           thread i stays in function i and bears its name
//   --main-leaves    the main thread ends by pthread_exit
//
// Command "window BEGIN END", two times of the wall clock in ns, prints what was used between them:
// "functions A B ..." and "threads A B ...", ns.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

enum { kFunctions = 10, kMostThreads = 16, kRecords = 1 << 16 };
static const uint64_t kMeanSlice = 200000;
static const uint64_t kBetweenRecords = 1000000;

// How far a thread had come at a time.
struct Record {
  uint64_t time;
  uint64_t used[kFunctions];
};

struct Worker {
  pthread_t thread;
  int number;
  struct Record* records;
  uint64_t count;  // of records; written by the thread, with release
};

static struct Worker workers[kMostThreads];
static int worker_count = 1;
static int each_its_own;

#define SHARE(number)                              \
  NOINLINE uint64_t share_##number(uint64_t end) { \
    uint64_t now;                                  \
    do {                                           \
      spin(5000 + number);                         \
      now = thread_cpu();                          \
    } while (now < end);                           \
    return now;                                    \
  }
SHARE(1)
SHARE(2)
SHARE(3)
SHARE(4)
SHARE(5)
SHARE(6)
SHARE(7)
SHARE(8)
SHARE(9)
SHARE(10)

static uint64_t (*const shares[kFunctions])(uint64_t) = {share_1, share_2, share_3, share_4, share_5,
                                                         share_6, share_7, share_8, share_9, share_10};

// Function i is chosen with probability i/55.
static int choose(uint64_t* random) {
  uint64_t left = next_random(random) % 55;
  int chosen = 0;
  while (left >= (uint64_t)chosen + 1) left -= (uint64_t)++chosen;
  return chosen;
}

NOINLINE void* work(void* argument) {
  struct Worker* worker = argument;
  char name[16];
  snprintf(name, sizeof name, each_its_own ? "share-%d" : "worker-%d", worker->number + 1);
  name_thread(name);
  uint64_t random = 88172645463325252u + (uint64_t)worker->number * 7919;
  uint64_t used[kFunctions] = {0};
  uint64_t recorded = 0;
  uint64_t before = thread_cpu();
  for (;;) {
    const uint64_t time = clock_nanos(CLOCK_REALTIME);
    if (time - recorded >= kBetweenRecords) {
      recorded = time;
      struct Record* record = &worker->records[worker->count % kRecords];
      record->time = time;
      memcpy(record->used, used, sizeof used);
      __atomic_store_n(&worker->count, worker->count + 1, __ATOMIC_RELEASE);
    }
    const int chosen = each_its_own ? worker->number % kFunctions : choose(&random);
    const uint64_t now = shares[chosen](before + next_random(&random) % (2 * kMeanSlice));
    used[chosen] += now - before;
    before = now;
  }
  return NULL;
}

// Between two records, about a millisecond apart, a straight line.
static void used_at(const struct Worker* worker, uint64_t time, double* used) {
  const uint64_t count = __atomic_load_n(&worker->count, __ATOMIC_ACQUIRE);
  const struct Record* before = NULL;
  for (uint64_t i = count; i > 0 && count - i < kRecords - 2; --i) {
    const struct Record* record = &worker->records[(i - 1) % kRecords];
    if (record->time > time) continue;
    before = record;
    if (i == count) break;
    const struct Record* after = &worker->records[i % kRecords];
    const double part = (double)(time - before->time) / (double)(after->time - before->time);
    for (int f = 0; f < kFunctions; ++f)
      used[f] = (double)before->used[f] + part * (double)(after->used[f] - before->used[f]);
    return;
  }
  for (int f = 0; f < kFunctions; ++f) used[f] = before == NULL ? 0 : (double)before->used[f];
}

static void print_numbers(const char* what, const double* numbers, int count) {
  char line[512];
  int length = snprintf(line, sizeof line, "%s", what);
  for (int i = 0; i < count; ++i)
    length += snprintf(line + length, sizeof line - (size_t)length, " %.0f", numbers[i]);
  snprintf(line + length, sizeof line - (size_t)length, "\n");
  say(line);
}

// On a busy machine a thread may not have run since.
static void await_record_after(const struct Worker* worker, uint64_t time) {
  for (int tries = 0; tries < 10000; ++tries) {
    const uint64_t count = __atomic_load_n(&worker->count, __ATOMIC_ACQUIRE);
    if (count > 0 && worker->records[(count - 1) % kRecords].time > time) return;
    usleep(1000);
  }
}

static void print_window(uint64_t begin, uint64_t end) {
  for (int i = 0; i < worker_count; ++i) await_record_after(&workers[i], end);
  double functions[kFunctions] = {0};
  double threads[kMostThreads] = {0};
  for (int i = 0; i < worker_count; ++i) {
    double first[kFunctions];
    double last[kFunctions];
    used_at(&workers[i], begin, first);
    used_at(&workers[i], end, last);
    for (int f = 0; f < kFunctions; ++f) {
      functions[f] += last[f] - first[f];
      threads[i] += last[f] - first[f];
    }
  }
  print_numbers("functions", functions, kFunctions);
  print_numbers("threads", threads, worker_count);
}

static void* serve(void* unused) {
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    unsigned long begin = 0;
    unsigned long end = 0;
    if (sscanf(command, "window %lu %lu", &begin, &end) == 2) print_window(begin, end);
    say("done\n");
  }
  exit(0);
  return unused;
}

int main(int argc, char** argv) {
  int main_leaves = 0;
  for (int i = 1; i < argc; ++i) {
    if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc) worker_count = atoi(argv[++i]);
    if (strcmp(argv[i], "--each") == 0) each_its_own = 1;
    if (strcmp(argv[i], "--main-leaves") == 0) main_leaves = 1;
  }
  if (worker_count < 1 || worker_count > kMostThreads) return 2;
  for (int i = 0; i < worker_count; ++i) {
    workers[i].number = i;
    workers[i].records = mmap(NULL, kRecords * sizeof(struct Record), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (workers[i].records == MAP_FAILED) return 1;
    if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) return 1;
  }
  if (!main_leaves) serve(NULL);
  pthread_t server;
  pthread_create(&server, NULL, serve, NULL);
  pthread_exit(NULL);
}
