// A thread that may not ask the kernel for anything that programs hardly ever ask for, such as its own id,
// gives back locks that another one waits for, and waits for one. Says which it gave back. With an argument
// it may not read the clock either, and there is none without the kernel.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

#define KILL BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)
#define FORBID(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), KILL

enum { kMaybeTheClock = 100000, kItsPlace = 9 };  // no such call: replaced where the clock is forbidden

// libc itself changes signal masks when a thread ends, but it does not ask in vain.
static struct sock_filter instructions[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    FORBID(SYS_gettid),
    FORBID(SYS_process_vm_readv),
    FORBID(SYS_sigaltstack),
    FORBID(SYS_munlock),
    FORBID(kMaybeTheClock),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigprocmask, 0, 3),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
    BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 2, 0, 1),
    KILL,
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

enum { kLocks = 3 };
static pthread_mutex_t locks[kLocks];
static pthread_mutex_t last = PTHREAD_MUTEX_INITIALIZER;
static int turn;
static int tid;
static int holder_tid;
static int forbids_clock;

static void await_turn(int number) {
  while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != number) {
  }
}

// No wait of its own before the unlocks.
static void* give_back(void* argument) {
  if (forbids_clock) {
    prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0);
    instructions[kItsPlace].k = SYS_clock_gettime;
  }
  const struct sock_fprog filter = {sizeof instructions / sizeof *instructions, instructions};
  __atomic_store_n(&holder_tid, own_tid(), __ATOMIC_RELEASE);
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) != 0) return argument;
  for (int i = 0; i < kLocks; ++i) {
    pthread_mutex_lock(&locks[i]);
    __atomic_store_n(&turn, 2 * i + 1, __ATOMIC_RELEASE);
    await_turn(2 * i + 2);
    pthread_mutex_unlock(&locks[i]);
  }
  pthread_mutex_lock(&last);
  pthread_mutex_unlock(&last);
  return argument;
}

static void* lock_and_unlock(void* mutex) {
  __atomic_store_n(&tid, own_tid(), __ATOMIC_RELEASE);
  pthread_mutex_lock(mutex);
  pthread_mutex_unlock(mutex);
  return NULL;
}

int main(int argc, char** argv) {
  (void)argv;
  forbids_clock = argc > 1;
  static const int kTypes[kLocks] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK};
  static const char* const kNames[kLocks] = {"normal\n", "recursive\n", "checking\n"};
  pthread_t holder;
  pthread_t waiter;
  for (int i = 0; i < kLocks; ++i) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, kTypes[i]);
    pthread_mutex_init(&locks[i], &attributes);
  }
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  pthread_mutex_lock(&last);
  pthread_create(&holder, NULL, give_back, NULL);
  for (int i = 0; i < kLocks; ++i) {
    await_turn(2 * i + 1);
    tid = 0;
    pthread_create(&waiter, NULL, lock_and_unlock, &locks[i]);
    await_sleep(&tid);
    __atomic_store_n(&turn, 2 * i + 2, __ATOMIC_RELEASE);
    pthread_join(waiter, NULL);
    say(kNames[i]);
  }
  await_sleep(&holder_tid);
  pthread_mutex_unlock(&last);
  pthread_join(holder, NULL);
  serve_until_end();
  return 0;
}
