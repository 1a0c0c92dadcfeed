// Allocates and frees where most state is gone already: in a thread's TSD destructors (several rounds), in
// thread_local destructors, in atexit handlers, in static destructors and in a library's destructor function.
// Prints what it did.
#include <cstdlib>
#include <thread>

#include <pthread.h>

#include "test/victims/kit.h"

namespace {

void use_heap(const char* where) {
  for (std::size_t size = 1; size < 100000; size *= 3) {
    void* block = std::malloc(size);
    block = std::realloc(block, size * 2);
    void* other = std::calloc(1, size);
    USE(block);
    USE(other);
    std::free(block);
    std::free(other);
  }
  say(where);
}

struct Static {
  ~Static() { use_heap("static destructor\n"); }
} at_the_end;

struct Local {
  bool used = true;
  ~Local() { use_heap("thread_local destructor\n"); }
};
thread_local Local local;

pthread_key_t key;
int rounds;

void tsd_destructor(void* value) {
  use_heap("TSD destructor\n");
  // A destructor that sets its key again is called again, PTHREAD_DESTRUCTOR_ITERATIONS times at most.
  if (++rounds < 3) pthread_setspecific(key, value);
  // Freed by nobody until the C library frees the thread's own caches.
  pthread_setspecific(key, rounds < 3 ? std::malloc(333) : nullptr);
}

void at_exit() {
  use_heap("atexit\n");
}

}  // namespace

__attribute__((destructor)) static void library_destructor() {
  use_heap("destructor function\n");
}

int main() {
  std::atexit(at_exit);
  pthread_key_create(&key, tsd_destructor);
  std::thread([] {
    USE(&local.used);
    pthread_setspecific(key, std::malloc(111));
    use_heap("thread\n");
  }).join();
  // Many short threads: what a thread leaves behind must not grow.
  for (int i = 0; i < 200; ++i) std::thread([] { USE(std::malloc(7)); }).join();
  use_heap("main\n");
}
