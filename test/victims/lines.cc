// Source lines. Functions that the compiler must inline, one that calls itself, and a lock behind three
// wrappers. The line on which a function calls the next one says so in a comment, by which tests know it.
//
//   lines                keeps memory, contends for a lock, serves
//   lines --burn         and uses CPU time in inlined and in recursive functions, until the end of its input
#include <pthread.h>
#include <cstdlib>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

#define INLINED [[gnu::always_inline]] inline

namespace shop {

constexpr std::size_t kSize = 3000017;

struct Shelf {
  INLINED void* make_room(std::size_t size) {
    return std::malloc(size);  // make_room: malloc
  }
  INLINED void put(std::size_t size) {
    USE(make_room(size));  // put: make_room
  }
};

NOINLINE void fill() {
  Shelf shelf;
  shelf.put(kSize);  // fill: put
  END_OF_FRAME();
}

pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

INLINED void lock_raw() {
  pthread_mutex_lock(&mutex);  // lock_raw: pthread_mutex_lock
}
INLINED void unlock_raw() {
  pthread_mutex_unlock(&mutex);  // unlock_raw: pthread_mutex_unlock
}
struct Lock {
  INLINED void lock() {
    lock_raw();  // lock: lock_raw
  }
  INLINED void unlock() {
    unlock_raw();  // unlock: unlock_raw
  }
};
struct Guard {
  INLINED Guard() {
    lock.lock();  // Guard: lock
  }
  INLINED ~Guard() {
    lock.unlock();  // ~Guard: unlock
  }
  Lock lock;
};

int waiter;

NOINLINE void* waits(void*) {
  __atomic_store_n(&waiter, own_tid(), __ATOMIC_RELEASE);
  {
    Guard guard;  // waits: Guard
    USE(&guard);
  }
  END_OF_FRAME();
  return nullptr;
}

NOINLINE void holds() {
  pthread_t thread;
  {
    Guard guard;
    pthread_create(&thread, nullptr, waits, nullptr);
    await_sleep(&waiter);
    USE(&guard);
  }
  pthread_join(thread, nullptr);
  END_OF_FRAME();
}

bool is_over;

INLINED void spin() {
  for (int i = 0; i < 1000; ++i) USE(&is_over);  // spin
}

NOINLINE void burns() {
  spin();  // burns: spin
  END_OF_FRAME();
}

NOINLINE void recurses(int depth) {
  if (depth == 0) {
    burns();  // recurses: burns
  } else {
    recurses(depth - 1);  // recurses: recurses
  }
  END_OF_FRAME();
}

void* burn_until_end(void*) {
  while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED)) recurses(5);
  return nullptr;
}

}  // namespace shop

int main(int argc, char**) {
  pthread_t thread;
  if (argc > 1) pthread_create(&thread, nullptr, shop::burn_until_end, nullptr);
  shop::fill();
  shop::holds();
  serve_until_end();
  __atomic_store_n(&shop::is_over, true, __ATOMIC_RELAXED);
  if (argc > 1) pthread_join(thread, nullptr);
}
