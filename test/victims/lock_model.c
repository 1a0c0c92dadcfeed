// Several holders and waiters of several locks, all at the same time, each in a function of its own, and what
// each must be charged with, measured by themselves:
//   "waiter NAME at_least at_most"   how long the threads in NAME have waited
//   "holder NAME at_least at_most"   what all others have waited because of NAME
// in ns, over all rounds.
//
// A round of one lock: a holder takes it, three waiters come to sleep in it one by one, the holder gives it
// back a while later, and the waiters hold it in turn for a while each.
#include <pthread.h>
#include <stdlib.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

enum { kLocks = 3, kWaiters = 3, kRounds = 4, kEvents = kWaiters + 1 };

struct Between {
  long long after;
  long long before;
};

// One thread's part in a round: the holder's is the last.
struct Part {
  int tid;
  struct Between came;  // it began to wait: not before `after`, not later than `before`
  struct Between gave;  // it gave the lock back
  long long got;        // it had the lock at this time
};

struct Lock;
typedef void (*Function)(struct Lock*, struct Part*);

struct Lock {
  pthread_mutex_t mutex;
  struct Part parts[kEvents];
  Function functions[kEvents];
};

struct Charge {
  const char* name;
  Function function;
  long long waited_least, waited_most;
  long long caused_least, caused_most;
};

static void keep(struct Part* part, long ms) {
  sleep_ms(ms);
  part->gave.after = now_ns();
}

// Gives back the lock that this thread holds, after all others have come.
#define HOLDER(name, ms)                                            \
  NOINLINE static void name(struct Lock* lock, struct Part* part) { \
    keep(part, ms);                                                 \
    pthread_mutex_unlock(&lock->mutex);                             \
    part->gave.before = now_ns();                                   \
  }
#define WAITER(name, ms)                                            \
  NOINLINE static void name(struct Lock* lock, struct Part* part) { \
    part->came.after = now_ns();                                    \
    __atomic_store_n(&part->tid, own_tid(), __ATOMIC_RELEASE);      \
    pthread_mutex_lock(&lock->mutex);                               \
    part->got = now_ns();                                           \
    keep(part, ms);                                                 \
    pthread_mutex_unlock(&lock->mutex);                             \
    part->gave.before = now_ns();                                   \
  }
HOLDER(holder_a, 30)
HOLDER(holder_b, 11)
WAITER(waiter_a, 17)
WAITER(waiter_b, 3)
WAITER(waiter_c, 7)

static struct Charge charges[] = {
    {"holder_a", holder_a, 0, 0, 0, 0}, {"holder_b", holder_b, 0, 0, 0, 0},
    {"waiter_a", waiter_a, 0, 0, 0, 0}, {"waiter_b", waiter_b, 0, 0, 0, 0},
    {"waiter_c", waiter_c, 0, 0, 0, 0},
};
enum { kCharges = sizeof charges / sizeof charges[0] };
static pthread_mutex_t charges_mutex = PTHREAD_MUTEX_INITIALIZER;

static struct Charge* charge_of(Function function) {
  for (int i = 0; i < kCharges; ++i)
    if (charges[i].function == function) return &charges[i];
  _exit(4);
}

struct Start {
  struct Lock* lock;
  int index;
};

static void* run_part(void* argument) {
  const struct Start start = *(struct Start*)argument;
  start.lock->functions[start.index](start.lock, &start.lock->parts[start.index]);
  return NULL;
}

static long long latest(long long a, long long b) {
  return a > b ? a : b;
}
static long long positive(long long value) {
  return value > 0 ? value : 0;
}

// Each time that the lock is given back, all who still wait are charged to it since the last such moment, or
// since they came.
static void account(struct Lock* lock) {
  int order[kEvents] = {kWaiters, 0, 1, 2};
  for (int i = 1; i < kEvents; ++i) {
    for (int j = i + 1; j < kEvents; ++j) {
      if (lock->parts[order[j]].got >= lock->parts[order[i]].got) continue;
      const int other = order[i];
      order[i] = order[j];
      order[j] = other;
    }
  }
  pthread_mutex_lock(&charges_mutex);
  for (int i = 0; i + 1 < kEvents; ++i) {
    struct Charge* charge = charge_of(lock->functions[order[i]]);
    const struct Between now = lock->parts[order[i]].gave;
    for (int j = i + 1; j < kEvents; ++j) {
      const struct Part* waiter = &lock->parts[order[j]];
      const struct Between before = i == 0 ? waiter->came : lock->parts[order[i - 1]].gave;
      charge->caused_least += positive(now.after - latest(before.before, waiter->came.before));
      charge->caused_most += now.before - latest(before.after, waiter->came.after);
    }
  }
  for (int i = 1; i < kEvents; ++i) {
    const struct Part* waiter = &lock->parts[order[i]];
    struct Charge* charge = charge_of(lock->functions[order[i]]);
    charge->waited_least += positive(lock->parts[order[i - 1]].gave.after - waiter->came.before);
    charge->waited_most += waiter->got - waiter->came.after;
  }
  pthread_mutex_unlock(&charges_mutex);
}

static void* run_lock(void* argument) {
  static const Function kFirst[] = {holder_a, holder_b};
  static const Function kThen[] = {waiter_a, waiter_b, waiter_c};
  struct Lock* lock = argument;
  static int locks_so_far;
  const int number = __atomic_fetch_add(&locks_so_far, 1, __ATOMIC_RELAXED);
  pthread_mutex_init(&lock->mutex, NULL);
  for (int round = 0; round < kRounds; ++round) {
    pthread_t threads[kEvents];
    struct Start starts[kEvents];
    memset(lock->parts, 0, sizeof lock->parts);
    lock->functions[kWaiters] = kFirst[(round + number) % 2];
    for (int i = 0; i < kWaiters; ++i) lock->functions[i] = kThen[(i + round + number) % 3];
    struct Part* holder = &lock->parts[kWaiters];
    for (int i = 0; i < kEvents; ++i) starts[i] = (struct Start){lock, i};
    pthread_mutex_lock(&lock->mutex);
    holder->got = now_ns();
    for (int i = 0; i < kWaiters; ++i) {
      struct Part* waiter = &lock->parts[i];
      pthread_create(&threads[i], NULL, run_part, &starts[i]);
      await_sleep(&waiter->tid);
      waiter->came.before = now_ns();
    }
    lock->functions[kWaiters](lock, holder);
    for (int i = 0; i < kWaiters; ++i) pthread_join(threads[i], NULL);
    account(lock);
  }
  return NULL;
}

int main(void) {
  static struct Lock locks[kLocks];
  pthread_t threads[kLocks];
  char line[128];
  for (int i = 0; i < kLocks; ++i) pthread_create(&threads[i], NULL, run_lock, &locks[i]);
  for (int i = 0; i < kLocks; ++i) pthread_join(threads[i], NULL);
  for (int i = 0; i < kCharges; ++i) {
    const struct Charge* charge = &charges[i];
    snprintf(line, sizeof line, "waiter %s %lld %lld\nholder %s %lld %lld\n", charge->name,
             charge->waited_least, charge->waited_most, charge->name, charge->caused_least,
             charge->caused_most);
    say(line);
  }
  serve_until_end();
  return 0;
}
