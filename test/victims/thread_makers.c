// Makes threads in functions with names, by command: "leak N" (they wait for ever), "tidy N" (they end and
// are joined), "c11 N" and "own_stack N" (they wait), "raw N" (past the threads library; they wait), "vanish
// N" (detached; each gives back the memory that its handle is in, first thing), "again" (a thread that ends,
// then one that waits and has the same number, if the kernel can be asked for that). Starts with "leak 5",
// "tidy 3".
// "--main-ends": the main thread leaves the rest to another one.
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <threads.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

static sem_t started, never;
static int last_tid;

static void* wait_for_ever(void* unused) {
  last_tid = own_tid();
  sem_post(&started);
  while (sem_wait(&never) != 0) {
  }
  return unused;
}

static void* end_at_once(void* unused) {
  last_tid = own_tid();
  return unused;
}

static int wait_for_ever_c11(void* unused) {
  wait_for_ever(unused);
  return 0;
}

NOINLINE void leaks_threads(int count) {
  for (int i = 0; i < count; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, wait_for_ever, NULL) != 0) _exit(5);
    sem_wait(&started);
  }
}

NOINLINE void tidies_threads(int count) {
  for (int i = 0; i < count; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, end_at_once, NULL) != 0) _exit(5);
    pthread_join(thread, NULL);
  }
}

NOINLINE void leaks_c11_threads(int count) {
  for (int i = 0; i < count; ++i) {
    thrd_t thread;
    if (thrd_create(&thread, wait_for_ever_c11, NULL) != thrd_success) _exit(5);
    sem_wait(&started);
  }
}

NOINLINE void leaks_on_own_stacks(int count) {
  for (int i = 0; i < count; ++i) {
    enum { kBytes = 64 << 10 };
    void* stack = NULL;
    pthread_t thread;
    pthread_attr_t attributes;
    if (posix_memalign(&stack, 4096, kBytes) != 0) _exit(5);
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, kBytes);
    if (pthread_create(&thread, &attributes, wait_for_ever, NULL) != 0) _exit(5);
    sem_wait(&started);
  }
}

// It shares its creator's thread-local storage, so it calls nothing.
static int pause_for_ever(void* unused) {
  (void)unused;
  for (;;) {
    long number = SYS_pause;
    __asm__ volatile("syscall" : "+a"(number) : : "rcx", "r11", "memory");
  }
  return 0;
}

NOINLINE void makes_raw_threads(int count) {
  for (int i = 0; i < count; ++i) {
    enum { kBytes = 64 << 10 };
    char* stack = malloc(kBytes);
    const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    if (clone(pause_for_ever, stack + kBytes, flags, NULL) < 0) _exit(5);
  }
}

static int vanished;

static void* vanish(void* page) {
  munmap(page, 4096);
  __atomic_fetch_add(&vanished, 1, __ATOMIC_RELEASE);
  return NULL;
}

NOINLINE void makes_vanishing_threads(int count) {
  pthread_attr_t detached;
  pthread_attr_init(&detached);
  pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&detached, 64 << 10);
  vanished = 0;
  for (int i = 0; i < count; ++i) {
    char* page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pthread_create((pthread_t*)(page + 64), &detached, vanish, page) != 0) _exit(5);
    // Not too many at once.
    while (__atomic_load_n(&vanished, __ATOMIC_ACQUIRE) + 8 < i) sched_yield();
  }
  while (__atomic_load_n(&vanished, __ATOMIC_ACQUIRE) != count) sched_yield();
}

static void have_number_again(void) {
  tidies_threads(1);
  const int first = last_tid;
  const int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
  char last[16];
  const int length = snprintf(last, sizeof last, "%d", first - 1);
  const int is_asked = fd >= 0 && write(fd, last, (size_t)length) == length;
  leaks_c11_threads(1);
  if (fd >= 0) close(fd);
  say(is_asked && last_tid == first ? "same number\n" : "other number\n");
}

static void* serve(void* unused) {
  char command[64];
  leaks_threads(5);
  tidies_threads(3);
  say("ready\n");
  while (await_command(command, sizeof command)) {
    int count = 0;
    if (sscanf(command, "leak %d", &count) == 1) leaks_threads(count);
    if (sscanf(command, "tidy %d", &count) == 1) tidies_threads(count);
    if (sscanf(command, "c11 %d", &count) == 1) leaks_c11_threads(count);
    if (sscanf(command, "own_stack %d", &count) == 1) leaks_on_own_stacks(count);
    if (sscanf(command, "raw %d", &count) == 1) makes_raw_threads(count);
    if (sscanf(command, "vanish %d", &count) == 1) makes_vanishing_threads(count);
    if (strcmp(command, "again") == 0) have_number_again();
    say("done\n");
  }
  _exit(0);
  return unused;
}

int main(int argc, char** argv) {
  sem_init(&started, 0, 0);
  sem_init(&never, 0, 0);
  if (argc > 1 && strcmp(argv[1], "--main-ends") == 0) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, serve, NULL) != 0) return 1;
    pthread_exit(NULL);
  }
  serve(NULL);
}
