// Forks while two threads wait for a lock that the forking thread holds. Parent and child both give it back,
// in functions of their own; then two threads of the child contend for it anew. Each process says its pid.
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int tids[2];

NOINLINE static void* parent_waits(void* argument) {
  __atomic_store_n((int*)argument, own_tid(), __ATOMIC_RELEASE);
  pthread_mutex_lock(&lock);
  pthread_mutex_unlock(&lock);
  return NULL;
}

NOINLINE static void* child_waits(void* argument) {
  __atomic_store_n((int*)argument, own_tid(), __ATOMIC_RELEASE);
  pthread_mutex_lock(&lock);
  pthread_mutex_unlock(&lock);
  return NULL;
}

NOINLINE static void parent_gives_back(void) {
  pthread_mutex_unlock(&lock);
  END_OF_FRAME();
}

// Nobody waits in the child, whatever the parent's table said.
NOINLINE static void child_gives_back(void) {
  pthread_mutex_unlock(&lock);
  END_OF_FRAME();
}

NOINLINE static void child_gives_back_later(void) {
  pthread_t thread;
  pthread_mutex_lock(&lock);
  tids[0] = 0;
  pthread_create(&thread, NULL, child_waits, &tids[0]);
  await_sleep(&tids[0]);
  pthread_mutex_unlock(&lock);
  pthread_join(thread, NULL);
}

static void say_pid(const char* who) {
  char line[64];
  snprintf(line, sizeof line, "%s %d\n", who, (int)getpid());
  say(line);
}

int main(void) {
  pthread_t threads[2];
  int lifeline[2];
  if (pipe(lifeline) != 0) return 1;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < 2; ++i) {
    pthread_create(&threads[i], NULL, parent_waits, &tids[i]);
    await_sleep(&tids[i]);
  }
  const pid_t child = fork();
  if (child == 0) {
    close(lifeline[1]);
    child_gives_back();
    child_gives_back_later();
    free(malloc(1));  // a child opens its address when it allocates
    say_pid("child");
    char byte;
    while (read(lifeline[0], &byte, 1) == 1) {
    }
    _exit(7);
  }
  close(lifeline[0]);
  parent_gives_back();
  for (int i = 0; i < 2; ++i) pthread_join(threads[i], NULL);
  say_pid("parent");
  serve_until_end();
  close(lifeline[1]);
  int status = 0;
  waitpid(child, &status, 0);
  say(WIFEXITED(status) && WEXITSTATUS(status) == 7 ? "child ended well\n" : "wrong child status\n");
  return 0;
}
