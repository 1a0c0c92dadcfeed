#include "agent/service/lock_owner.h"

#include <pthread.h>

#include "agent/safe/sys.h"

namespace profagent::service {

namespace {

// pthread_mutex_t's __kind has this bit in a mutex between processes.
constexpr int kShared = 128;

template <typename Lock>
bool read_at(std::uintptr_t address, Lock& lock) {
  return safe::sys::read_memory(address, &lock, sizeof(lock)) == sizeof(lock);
}

}  // namespace

LockOwner read_lock_owner(safe::WaitKind kind, std::uintptr_t lock) {
  if (kind == safe::WaitKind::kMutex) {
    pthread_mutex_t mutex;
    if (read_at(lock, mutex)) return {mutex.__data.__owner, (mutex.__data.__kind & kShared) != 0};
  }
  if (kind == safe::WaitKind::kRwlock) {
    pthread_rwlock_t rwlock;
    if (read_at(lock, rwlock)) return {rwlock.__data.__cur_writer, rwlock.__data.__shared != 0};
  }
  return {};
}

}  // namespace profagent::service
