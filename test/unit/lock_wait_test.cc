// A wait for a lock that was found taken: the hooks' part, in front of functions of ours that answer for
// libc.
#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <thread>

#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/safe/arena.h"
#include "agent/safe/contention_recorder.h"
#include "agent/safe/stack_table.h"
#include "hooks/waiting.h"
#include "test/unit/fake_unwind.h"

namespace profagent::hooks {
namespace {

using safe::contention_recorder;
using safe::lock_waiters;
using safe::WaitKind;

// What libc is asked, and what was the case then.
struct Libc {
  int busy = 0;  // tries that fail
  int answer = 0;
  int tries = 0;
  int calls = 0;
  bool was_entered_in_try = false;
  bool was_entered_in_call = false;
  bool was_published = false;
} libc;

bool is_published(const void* lock) {
  const safe::ThreadSlot* slot = safe::threads.current_of_waiter();
  return slot != nullptr && slot->wait.kind == WaitKind::kMutex && slot->wait.object == lock;
}

template <typename Lock>
int try_lock(Lock* lock) {
  libc.was_entered_in_try = lock_waiters.may_have(lock);
  libc.was_published = is_published(lock);
  return libc.tries++ < libc.busy ? EBUSY : 0;
}
template <typename Lock>
int lock_for_long(Lock* lock) {
  ++libc.calls;
  libc.was_entered_in_call = lock_waiters.may_have(lock);
  return libc.answer;
}

// As hooks/real.h has them.
int (*real_try)(pthread_mutex_t*) = try_lock<pthread_mutex_t>;
int (*real_lock)(pthread_mutex_t*) = lock_for_long<pthread_mutex_t>;
int (*real_tryrdlock)(pthread_rwlock_t*) = try_lock<pthread_rwlock_t>;
int (*real_rdlock)(pthread_rwlock_t*) = lock_for_long<pthread_rwlock_t>;

int wait_for(pthread_mutex_t* mutex) {
  return wait_for_lock<WaitKind::kMutex, real_lock, real_try, EBUSY>(mutex);
}

void begin_test(int busy, safe::Pc leaf = 0x100) {
  safe::arena.set_limit(safe::arena.mapped() + (std::size_t{16} << 20));
  REQUIRE(lock_waiters.prepare());
  REQUIRE(safe::threads.current() != nullptr);
  contention_recorder.set_block_rate(1);
  contention_recorder.set_mutex_fraction(1);
  test::set_stack({leaf});
  libc = {};
  libc.busy = busy;
}

double recorded(safe::Pc leaf) {
  double count = 0;
  safe::block_buckets.for_each([&](const safe::ContentionBucket& row) {
    const safe::InternedStack* stack = safe::stack_table.find(row.stack);
    if (stack == nullptr || std::find(stack->pcs().begin(), stack->pcs().end(), leaf) == stack->pcs().end())
      return;
    count += static_cast<double>(row.count.load()) / safe::ContentionBucket::kCountUnit;
  });
  return count;
}

TEST_CASE("a lock that becomes free soon is taken, without a waiter that anybody has to charge") {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  begin_test(1, 0x201);
  CHECK(wait_for(&mutex) == 0);
  CHECK(libc.tries == 2);
  CHECK(libc.calls == 0);
  CHECK(libc.was_published);
  CHECK_FALSE(is_published(&mutex));
  CHECK(recorded(0x201) == 1);
}

TEST_CASE("one that stays taken is waited for by one who was entered") {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  begin_test(1000, 0x301);
  CHECK(wait_for(&mutex) == 0);
  CHECK(libc.tries > 0);
  CHECK(libc.tries < 10);
  CHECK(libc.calls == 1);
  CHECK(libc.was_entered_in_call);
  CHECK_FALSE(lock_waiters.may_have(&mutex));
  CHECK(recorded(0x301) == 1);

  SECTION("unless it is refused: then there was no wait") {
    libc.answer = EDEADLK;
    CHECK(wait_for(&mutex) == EDEADLK);
    CHECK(recorded(0x301) == 1);
    CHECK_FALSE(lock_waiters.may_have(&mutex));
  }
}

// Binomial: N choices of 1 in 16; the sequence is fixed.
TEST_CASE("few are entered while they look, all are when they wait, and none is left behind") {
  constexpr int kTimes = 10'000;
  constexpr double kChosen = 1.0 / safe::LockWaiters::kLookersPerEntered;
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  begin_test(0);
  safe::thread_state.random = 4711;
  int entered = 0;
  const bool becomes_free = GENERATE(true, false);
  for (int i = 0; i < kTimes; ++i) {
    libc = {};
    libc.busy = becomes_free ? 0 : 1000;
    REQUIRE(wait_for(&mutex) == 0);
    if (libc.was_entered_in_try) ++entered;
    REQUIRE(libc.was_entered_in_call == !becomes_free);
    REQUIRE_FALSE(lock_waiters.is_anybody_waiting());
  }
  CHECK(std::abs(entered - kTimes * kChosen) < 4.5 * std::sqrt(kTimes * kChosen));
}

// An unlock that libc would wake nobody by meets only those who look.
TEST_CASE("while somebody wants to know the holders, each is entered and sleeps at once") {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  begin_test(1);
  contention_recorder.set_labels({.holders = true});
  for (int i = 0; i < 100; ++i) {
    libc = {};
    REQUIRE(wait_for(&mutex) == 0);
    REQUIRE(libc.tries == 0);
    REQUIRE(libc.was_entered_in_call);
    REQUIRE_FALSE(lock_waiters.is_anybody_waiting());
  }
  contention_recorder.set_labels({});
}

TEST_CASE("while nobody measures, libc waits at once") {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  begin_test(0, 0x401);
  contention_recorder.set_block_rate(0);
  contention_recorder.set_mutex_fraction(0);
  CHECK(wait_for(&mutex) == 0);
  CHECK(libc.tries == 0);
  CHECK(libc.calls == 1);
  CHECK_FALSE(libc.was_entered_in_call);
  CHECK(recorded(0x401) == 0);
}

TEST_CASE("with the mutex profile alone a lock is looked at for a while as well") {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  begin_test(1, 0x501);
  contention_recorder.set_block_rate(0);
  CHECK(wait_for(&mutex) == 0);
  CHECK(libc.tries == 2);
  CHECK(libc.calls == 0);
  CHECK(recorded(0x501) == 0);
}

// Each try of one that raises its holder's priority is two system calls, and a robust one's leaves something
// to clean up.
TEST_CASE("a mutex with a protocol, a robust one and one of several processes is left to libc") {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  SECTION("inherits") {
    REQUIRE(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT) == 0);
  }
  SECTION("protects") {
    REQUIRE(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_PROTECT) == 0);
  }
  SECTION("robust") {
    REQUIRE(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0);
  }
  SECTION("shared") {
    REQUIRE(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0);
  }
  pthread_mutex_t mutex;
  REQUIRE(pthread_mutex_init(&mutex, &attributes) == 0);
  begin_test(0);
  CHECK(wait_for(&mutex) == 0);
  CHECK(libc.tries == 0);
  CHECK(libc.calls == 1);
  CHECK(libc.was_entered_in_call);
  pthread_mutex_destroy(&mutex);
  pthread_mutexattr_destroy(&attributes);
}

// libc's lock wakes nobody then (hooks/unrecoverable.h).
TEST_CASE("who is refused an unrecoverable mutex after a wait wakes the next one") {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  REQUIRE(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0);
  pthread_mutex_t mutex;
  REQUIRE(pthread_mutex_init(&mutex, &attributes) == 0);
  begin_test(0);
  libc.answer = ENOTRECOVERABLE;
  std::atomic<bool> is_over{false};
  long answer = 0;
  std::thread next([&] {
    const timespec limit{10, 0};
    answer = syscall(SYS_futex, &mutex.__data.__lock, FUTEX_WAIT, 0, &limit);
    is_over = true;
  });
  // It may not sleep yet.
  while (!is_over) {
    CHECK(wait_for(&mutex) == ENOTRECOVERABLE);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  next.join();
  CHECK(answer == 0);  // not that its time is over
  pthread_mutex_destroy(&mutex);
  pthread_mutexattr_destroy(&attributes);
}

// As real::syscall.
long (*real_futex)(long) = [](long error) -> long {
  errno = static_cast<int>(error);
  return -1;
};

TEST_CASE("a futex whose word had another value was not waited for") {
  begin_test(0, 0x700);
  const auto wait = [](long error) {
    CHECK(wait_in<WaitKind::kFutex, real_futex>(&libc, error) == -1);
    CHECK(errno == error);
    return recorded(0x700);
  };
  CHECK(wait(EAGAIN) == 0);
  CHECK(wait(ETIMEDOUT) == 1);
  CHECK(wait(EINTR) == 2);
}

TEST_CASE("mutexes of any type, and read-write locks, are tried") {
  begin_test(0);
  // To ask for the normal type is not to say nothing.
  for (const int type :
       {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_ADAPTIVE_NP}) {
    CAPTURE(type);
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    REQUIRE(pthread_mutexattr_settype(&attributes, type) == 0);
    pthread_mutex_t mutex;
    REQUIRE(pthread_mutex_init(&mutex, &attributes) == 0);
    libc = {};
    CHECK(wait_for(&mutex) == 0);
    CHECK(libc.tries == 1);
    pthread_mutex_destroy(&mutex);
    pthread_mutexattr_destroy(&attributes);
  }
  pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
  libc = {};
  CHECK(wait_for_lock<WaitKind::kRwlock, real_rdlock, real_tryrdlock, EBUSY>(&lock) == 0);
  CHECK(libc.tries == 1);
  CHECK(libc.calls == 0);
}

}  // namespace
}  // namespace profagent::hooks
