// The functions behind our hooks: real::malloc is the malloc that the program would have called without us.
//
// Each pointer starts at a stub that resolves all of them, so there is no "resolved yet?" test and no order
// of start-up to get wrong: the first call, whoever makes it, resolves the table once, without allocating.
#pragma once

#include <atomic>
#include <csignal>
#include <cstddef>
#include <type_traits>

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <threads.h>

namespace profagent::hooks::real {

#define PROFAGENT_HOOK(name, result, parameters, arguments, fallback) \
  [[gnu::visibility("hidden")]] extern constinit std::add_pointer_t<result parameters> name;
#include "hooks/table.def"
#undef PROFAGENT_HOOK

// What a mutex is tried with: pthread_mutex_trylock(), but where a library before libc has the lock and not
// the try, its pthread_mutex_lock(). It would not know of what a try has taken.
[[gnu::visibility("hidden")]] extern constinit std::add_pointer_t<int(pthread_mutex_t*)> attempt_mutex;

// The same of other locks: whether they may be tried. False before resolve().
[[gnu::visibility("hidden")]] extern constinit std::atomic<bool> may_try_rdlock;
[[gnu::visibility("hidden")]] extern constinit std::atomic<bool> may_try_wrlock;
[[gnu::visibility("hidden")]] extern constinit std::atomic<bool> may_try_mtx;
// sem_trywait(), or this one.
int have_no_unit(sem_t* semaphore) noexcept;
[[gnu::visibility("hidden")]] extern constinit std::add_pointer_t<int(sem_t*)> attempt_unit;

// Any thread; cheap after the first time.
void resolve() noexcept;

}  // namespace profagent::hooks::real
