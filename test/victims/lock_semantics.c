// What POSIX and glibc promise of locks and waits, one line for each: "name: answer, errno". The same lines
// must come with the agent and without it.
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <threads.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

enum { kMark = 4711 };

static void tell(const char* name, long answer) {
  const int seen = errno;
  char line[160];
  if (seen == kMark) {
    snprintf(line, sizeof line, "%s: %ld\n", name, answer);
  } else {
    snprintf(line, sizeof line, "%s: %ld, errno %d\n", name, answer, seen);
  }
  say(line);
}

#define TELL(call)     \
  do {                 \
    errno = kMark;     \
    tell(#call, call); \
  } while (0)

static struct timespec ms_from_now(clockid_t clock, long ms) {
  struct timespec time;
  clock_gettime(clock, &time);
  time.tv_nsec += ms * 1000000;
  time.tv_sec += time.tv_nsec / 1000000000;
  time.tv_nsec %= 1000000000;
  return time;
}

static pthread_mutex_t* make_mutex(int type, int robust, int protocol, int shared) {
  pthread_mutexattr_t attributes;
  pthread_mutex_t* mutex = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_settype(&attributes, type);
  pthread_mutexattr_setrobust(&attributes, robust);
  pthread_mutexattr_setprotocol(&attributes, protocol);
  pthread_mutexattr_setpshared(&attributes, shared);
  if (pthread_mutex_init(mutex, &attributes) != 0) say("no such mutex\n");
  return mutex;
}

static void in_thread(void* (*function)(void*), void* argument) {
  pthread_t thread;
  pthread_create(&thread, NULL, function, argument);
  pthread_join(thread, NULL);
}

static void* lock_and_die(void* mutex) {
  pthread_mutex_lock(mutex);
  return NULL;
}

static void* unlock_of_another(void* mutex) {
  TELL(pthread_mutex_unlock(mutex));
  return NULL;
}

// The owner died: whoever comes next holds the lock, and must not lock it again.
static void robust(int type, int protocol) {
  pthread_mutex_t* mutex = make_mutex(type, PTHREAD_MUTEX_ROBUST, protocol, PTHREAD_PROCESS_PRIVATE);
  const struct timespec soon = ms_from_now(CLOCK_REALTIME, 300);
  in_thread(lock_and_die, mutex);
  TELL(pthread_mutex_lock(mutex));
  TELL(pthread_mutex_consistent(mutex));
  TELL(pthread_mutex_unlock(mutex));
  TELL(pthread_mutex_lock(mutex));
  TELL(pthread_mutex_unlock(mutex));
  in_thread(lock_and_die, mutex);
  TELL(pthread_mutex_timedlock(mutex, &soon));
  TELL(pthread_mutex_unlock(mutex));  // not made consistent
  TELL(pthread_mutex_lock(mutex));
  TELL(pthread_mutex_timedlock(mutex, &soon));
  TELL(pthread_mutex_trylock(mutex));
}

// The same, by a waiter that sleeps when the owner dies.
static int dying_tid;
static void* wait_and_tell(void* mutex) {
  __atomic_store_n(&dying_tid, own_tid(), __ATOMIC_RELEASE);
  TELL(pthread_mutex_lock(mutex));
  TELL(pthread_mutex_consistent(mutex));
  TELL(pthread_mutex_unlock(mutex));
  return NULL;
}
static void* die_when_waited_for(void* argument) {
  pthread_mutex_t* mutex = argument;
  pthread_t waiter;
  pthread_mutex_lock(mutex);
  dying_tid = 0;
  pthread_create(&waiter, NULL, wait_and_tell, mutex);
  await_sleep(&dying_tid);
  return (void*)waiter;
}
static void robust_waiter(void) {
  pthread_mutex_t* mutex =
      make_mutex(PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE, PTHREAD_PROCESS_PRIVATE);
  pthread_t owner;
  void* waiter;
  pthread_create(&owner, NULL, die_when_waited_for, mutex);
  pthread_join(owner, &waiter);
  pthread_join((pthread_t)waiter, NULL);
}

// Several threads at once: each that is refused must leave it to the next.
static void* is_refused_often(void* mutex) {
  const struct timespec soon = ms_from_now(CLOCK_REALTIME, 60000);
  for (int i = 0; i < 20000; ++i) {
    const int answer = i % 2 == 0 ? pthread_mutex_lock(mutex) : pthread_mutex_timedlock(mutex, &soon);
    if (answer != ENOTRECOVERABLE) say("not refused\n");
  }
  return NULL;
}
static void unrecoverable(void) {
  pthread_mutex_t* mutex =
      make_mutex(PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE, PTHREAD_PROCESS_PRIVATE);
  enum { kThreads = 4 };
  pthread_t threads[kThreads];
  in_thread(lock_and_die, mutex);
  pthread_mutex_lock(mutex);
  pthread_mutex_unlock(mutex);
  for (int i = 0; i < kThreads; ++i) pthread_create(&threads[i], NULL, is_refused_often, mutex);
  for (int i = 0; i < kThreads; ++i) pthread_join(threads[i], NULL);
}

static void types(void) {
  pthread_mutex_t* recursive =
      make_mutex(PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE, PTHREAD_PROCESS_PRIVATE);
  const struct timespec soon = ms_from_now(CLOCK_REALTIME, 30);
  TELL(pthread_mutex_lock(recursive));
  TELL(pthread_mutex_lock(recursive));
  TELL(pthread_mutex_timedlock(recursive, &soon));
  in_thread(unlock_of_another, recursive);
  TELL(pthread_mutex_unlock(recursive));
  TELL(pthread_mutex_unlock(recursive));
  TELL(pthread_mutex_unlock(recursive));
  TELL(pthread_mutex_unlock(recursive));

  pthread_mutex_t* checking =
      make_mutex(PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE, PTHREAD_PROCESS_PRIVATE);
  TELL(pthread_mutex_unlock(checking));
  TELL(pthread_mutex_lock(checking));
  TELL(pthread_mutex_lock(checking));
  TELL(pthread_mutex_timedlock(checking, &soon));
  TELL(pthread_mutex_trylock(checking));
  in_thread(unlock_of_another, checking);
  TELL(pthread_mutex_unlock(checking));
  TELL(pthread_mutex_unlock(checking));

  pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
  TELL(pthread_cond_timedwait(&cond, checking, &soon));  // not ours

  pthread_mutex_t* inheriting = make_mutex(PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_STALLED,
                                           PTHREAD_PRIO_INHERIT, PTHREAD_PROCESS_PRIVATE);
  TELL(pthread_mutex_lock(inheriting));
  TELL(pthread_mutex_lock(inheriting));
  TELL(pthread_mutex_unlock(inheriting));
  TELL(pthread_mutex_unlock(inheriting));

  pthread_mutex_t* adaptive = make_mutex(PTHREAD_MUTEX_ADAPTIVE_NP, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE,
                                         PTHREAD_PROCESS_PRIVATE);
  const struct timespec later = ms_from_now(CLOCK_REALTIME, 20);
  TELL(pthread_mutex_lock(adaptive));
  TELL(pthread_mutex_trylock(adaptive));
  TELL(pthread_mutex_timedlock(adaptive, &later));
  TELL(pthread_mutex_unlock(adaptive));

  pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
  TELL(pthread_rwlock_wrlock(&rwlock));
  TELL(pthread_rwlock_wrlock(&rwlock));  // EDEADLK
  TELL(pthread_rwlock_rdlock(&rwlock));
  TELL(pthread_rwlock_unlock(&rwlock));
  TELL(pthread_rwlock_rdlock(&rwlock));
  TELL(pthread_rwlock_rdlock(&rwlock));
  TELL(pthread_rwlock_trywrlock(&rwlock));

  mtx_t mtx;
  mtx_init(&mtx, mtx_timed | mtx_recursive);
  TELL(mtx_lock(&mtx));
  TELL(mtx_lock(&mtx));
  TELL(mtx_unlock(&mtx));
  TELL(mtx_unlock(&mtx));
}

static int waiting_tid;
static void* lock_and_unlock(void* mutex) {
  __atomic_store_n(&waiting_tid, own_tid(), __ATOMIC_RELEASE);
  const long locked = pthread_mutex_lock(mutex);
  return (void*)(locked * 1000 + pthread_mutex_unlock(mutex));
}

// Every kind, with one that waits while it is held.
static void contended(void) {
  static const int kTypes[] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK,
                               PTHREAD_MUTEX_ADAPTIVE_NP};
  for (int i = 0; i < 4; ++i) {
    for (int robust_too = 0; robust_too < 2; ++robust_too) {
      for (int inherit = 0; inherit < 2; ++inherit) {
        pthread_mutex_t* mutex =
            make_mutex(kTypes[i], robust_too ? PTHREAD_MUTEX_ROBUST : PTHREAD_MUTEX_STALLED,
                       inherit ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_NONE, PTHREAD_PROCESS_PRIVATE);
        pthread_t waiter;
        waiting_tid = 0;
        TELL(pthread_mutex_lock(mutex));
        pthread_create(&waiter, NULL, lock_and_unlock, mutex);
        await_sleep(&waiting_tid);
        TELL(pthread_mutex_unlock(mutex));
        void* answer = NULL;
        pthread_join(waiter, &answer);
        tell("waiter", (long)answer);
        TELL(pthread_mutex_destroy(mutex));
      }
    }
  }
}

static void wrong_times(void) {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
  pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
  sem_t semaphore;
  const struct timespec wrong = {0, 2000000000};
  const struct timespec past = {1, 0};
  const struct timespec soon = ms_from_now(CLOCK_REALTIME, 20);
  const struct timespec soon_steady = ms_from_now(CLOCK_MONOTONIC, 20);
  sem_init(&semaphore, 0, 1);
  // A lock that can be had at once is had, whatever the time says; a semaphore asks for a right time.
  TELL(pthread_mutex_timedlock(&mutex, &wrong));
  TELL(pthread_mutex_timedlock(&mutex, &wrong));
  TELL(pthread_mutex_timedlock(&mutex, &past));
  TELL(pthread_mutex_timedlock(&mutex, &soon));
  TELL(pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &soon_steady));
  TELL(pthread_cond_timedwait(&cond, &mutex, &wrong));
  TELL(pthread_cond_timedwait(&cond, &mutex, &past));
  TELL(pthread_cond_timedwait(&cond, &mutex, &soon));
  TELL(pthread_cond_clockwait(&cond, &mutex, CLOCK_MONOTONIC, &soon_steady));
  TELL(pthread_mutex_unlock(&mutex));
  TELL(pthread_rwlock_timedwrlock(&rwlock, &past));
  TELL(pthread_rwlock_timedrdlock(&rwlock, &past));
  TELL(pthread_rwlock_unlock(&rwlock));
  TELL(sem_timedwait(&semaphore, &wrong));
  TELL(sem_timedwait(&semaphore, &wrong));
  TELL(sem_timedwait(&semaphore, &past));
  TELL(sem_timedwait(&semaphore, &soon));
  TELL(sem_clockwait(&semaphore, CLOCK_MONOTONIC, &soon_steady));
  TELL(sem_clockwait(&semaphore, CLOCK_PROCESS_CPUTIME_ID, &soon_steady));
}

// What is refused even when there is no need to wait. A lock for each, so that none is taken by another's
// mistake.
static void refused(void) {
  pthread_mutex_t mutexes[2] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};
  pthread_rwlock_t rwlocks[8];
  sem_t semaphore;
  const clockid_t no_clock = CLOCK_PROCESS_CPUTIME_ID;
  const struct timespec too_much = {0, 2000000000};
  const struct timespec negative = {0, -1};
  const struct timespec later = ms_from_now(CLOCK_MONOTONIC, 60000);
  for (int i = 0; i < 8; ++i) pthread_rwlock_init(&rwlocks[i], NULL);
  sem_init(&semaphore, 0, 4);
  TELL(pthread_rwlock_timedrdlock(&rwlocks[0], &too_much));
  TELL(pthread_rwlock_timedrdlock(&rwlocks[1], &negative));
  TELL(pthread_rwlock_timedwrlock(&rwlocks[2], &too_much));
  TELL(pthread_rwlock_timedwrlock(&rwlocks[3], &negative));
  TELL(pthread_rwlock_clockrdlock(&rwlocks[4], no_clock, &later));
  TELL(pthread_rwlock_clockwrlock(&rwlocks[5], no_clock, &later));
  TELL(pthread_rwlock_clockrdlock(&rwlocks[6], CLOCK_MONOTONIC, &too_much));
  TELL(pthread_rwlock_clockwrlock(&rwlocks[7], CLOCK_MONOTONIC, &too_much));
  for (int i = 0; i < 8; ++i) TELL(pthread_rwlock_trywrlock(&rwlocks[i]));
  TELL(pthread_mutex_clocklock(&mutexes[0], no_clock, &later));
  TELL(pthread_mutex_clocklock(&mutexes[1], CLOCK_MONOTONIC, &too_much));  // which is not
  for (int i = 0; i < 2; ++i) TELL(pthread_mutex_trylock(&mutexes[i]));
  TELL(sem_timedwait(&semaphore, &negative));
  TELL(sem_clockwait(&semaphore, no_clock, &later));
  TELL(sem_clockwait(&semaphore, CLOCK_MONOTONIC, &too_much));
  int units = -1;
  sem_getvalue(&semaphore, &units);
  tell("units", units);
}

static void on_alarm(int number) {
  (void)number;
}
static void* interrupt(void* tid) {
  await_sleep(tid);
  kill(getpid(), SIGUSR2);
  return NULL;
}
// A signal ends a wait for a semaphore, and none for a mutex.
static void interrupted(void) {
  sem_t semaphore;
  pthread_t thread;
  sigset_t usr2;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_alarm;
  sigaction(SIGUSR2, &action, NULL);
  sem_init(&semaphore, 0, 0);
  sigemptyset(&usr2);
  sigaddset(&usr2, SIGUSR2);
  int tid = 0;
  pthread_sigmask(SIG_BLOCK, &usr2, NULL);
  pthread_create(&thread, NULL, interrupt, &tid);
  pthread_sigmask(SIG_UNBLOCK, &usr2, NULL);
  __atomic_store_n(&tid, own_tid(), __ATOMIC_RELEASE);
  TELL(sem_wait(&semaphore));
  pthread_join(thread, NULL);
}

// A change of rights reaches every thread by a signal of libc's, which ends no wait.
static void* wait_for_post(void* argument) {
  __atomic_store_n(&waiting_tid, own_tid(), __ATOMIC_RELEASE);
  errno = 0;
  const long answer = sem_wait(argument);
  return (void*)(answer * 1000 + errno);
}
static void rights(void) {
  sem_t semaphore;
  pthread_t thread;
  void* answer = NULL;
  sem_init(&semaphore, 0, 0);
  waiting_tid = 0;
  pthread_create(&thread, NULL, wait_for_post, &semaphore);
  await_sleep(&waiting_tid);
  for (int i = 0; i < 100; ++i)
    if (setuid(getuid()) != 0) say("setuid failed\n");
  sem_post(&semaphore);
  pthread_join(thread, &answer);
  tell("waiter", (long)answer);
}

static void* last_words(void* argument) {
  return argument;
}
static int last_number(void* argument) {
  return (int)(long)argument;
}
static void joins(void) {
  pthread_t thread;
  thrd_t other;
  void* result = NULL;
  int number = 0;
  TELL(pthread_join(pthread_self(), NULL));
  pthread_create(&thread, NULL, last_words, (void*)4712);
  TELL(pthread_join(thread, &result));
  tell("result", (long)result);
  thrd_create(&other, last_number, (void*)4713);
  TELL(thrd_join(other, &number));
  tell("number", number);
}

// Between processes: the child holds the lock until the parent sleeps in it, then the parent dies holding it.
struct Shared {
  int holder_has_it;
  int waiter;
};
static int is_process_asleep(int pid) {
  char path[64];
  char text[256];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  const ssize_t size = read(file, text, sizeof text - 1);
  close(file);
  text[size > 0 ? size : 0] = '\0';
  const char* end_of_name = strrchr(text, ')');
  return end_of_name != NULL && end_of_name[2] == 'S';
}
static void between_processes(void) {
  pthread_mutex_t* mutex =
      make_mutex(PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE, PTHREAD_PROCESS_SHARED);
  struct Shared* shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  const int parent = getpid();
  const pid_t child = fork();
  if (child == 0) {
    pthread_mutex_lock(mutex);
    __atomic_store_n(&shared->holder_has_it, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&shared->waiter, __ATOMIC_ACQUIRE) || !is_process_asleep(parent)) sleep_ms(1);
    pthread_mutex_unlock(mutex);
    _exit(0);
  }
  while (!__atomic_load_n(&shared->holder_has_it, __ATOMIC_ACQUIRE)) sleep_ms(1);
  __atomic_store_n(&shared->waiter, 1, __ATOMIC_RELEASE);
  TELL(pthread_mutex_lock(mutex));
  TELL(pthread_mutex_unlock(mutex));
  int status = 0;
  waitpid(child, &status, 0);
  tell("status", status);
  const pid_t mortal = fork();
  if (mortal == 0) {
    pthread_mutex_lock(mutex);
    _exit(0);
  }
  waitpid(mortal, &status, 0);
  TELL(pthread_mutex_lock(mutex));
}

int main(void) {
  say("-- robust\n");
  errno = kMark;
  robust(PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE);
  robust(PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE);
  robust(PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE);
  robust(PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT);
  robust_waiter();
  unrecoverable();
  say("-- types\n");
  types();
  contended();
  say("-- times\n");
  wrong_times();
  refused();
  interrupted();
  errno = kMark;
  rights();
  joins();
  say("-- processes\n");
  between_processes();
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) say("done\n");
  return 0;
}
