// Every wait that a program may be in: one function each, on things of its own. A signal with a handler ends
// those with a timeout with EINTR, SA_RESTART or not, but for a few (signal(7)); those without one
// (woken_kinds.h) only when the handler is without SA_RESTART, or in part.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

enum {
  kTimeout = 2000000,       // ns
  kSlowTimeout = 40000000,  // for the kinds that count in ticks of the kernel and may end one earlier
  kTick = 10000000,         // the longest there is
};
static struct timespec timeout(void) {
  return (struct timespec){0, kTimeout};
}
static struct timespec deadline(clockid_t clock) {
  const uint64_t at = clock_nanos(clock) + (uint64_t)kTimeout;
  return (struct timespec){(time_t)(at / 1000000000u), (long)(at % 1000000000u)};
}

#include "test/victims/woken_kinds.h"

// What a thread waits on; its own, so that nobody wakes another's.
struct Things {
  int epoll, pair[2], semaphores;
  sem_t semaphore;
  pthread_mutex_t mutex;
  pthread_cond_t condition;
  aio_context_t aio;
  mqd_t messages;
  char message[64];
  int listener;
  struct Woken woken;
};

// Each returns the wait's errno; 0 when it ended as if something had come, ETIMEDOUT when it ended as it
// should.
typedef int (*Wait)(struct Things* things);
static int by_nanosleep(struct Things* things) {
  (void)things;
  const struct timespec time = timeout();
  return nanosleep(&time, NULL) == 0 ? ETIMEDOUT : errno;
}
static int by_clock_nanosleep(struct Things* things) {
  (void)things;
  const struct timespec time = timeout();
  const int error = clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
  return error == 0 ? ETIMEDOUT : error;
}
static int by_absolute_sleep(struct Things* things) {
  (void)things;
  const struct timespec time = deadline(CLOCK_MONOTONIC);
  const int error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
  return error == 0 ? ETIMEDOUT : error;
}
static int by_usleep(struct Things* things) {
  (void)things;
  return usleep(kTimeout / 1000) == 0 ? ETIMEDOUT : errno;
}
static int by_sleep(struct Things* things) {
  (void)things;
  return sleep(1) == 0 ? ETIMEDOUT : EINTR;
}
static int by_poll(struct Things* things) {
  struct pollfd waiting = {things->pair[0], POLLIN, 0};
  const int result = poll(&waiting, 1, kTimeout / 1000000);
  return result == 0 ? ETIMEDOUT : ERRNO_OF(result);
}
static int by_ppoll(struct Things* things) {
  struct pollfd waiting = {things->pair[0], POLLIN, 0};
  const struct timespec time = timeout();
  const int result = ppoll(&waiting, 1, &time, NULL);
  return result == 0 ? ETIMEDOUT : ERRNO_OF(result);
}
static int by_select(struct Things* things) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(things->pair[0], &set);
  struct timeval time = {0, kTimeout / 1000};
  const int result = select(things->pair[0] + 1, &set, NULL, NULL, &time);
  return result == 0 ? ETIMEDOUT : ERRNO_OF(result);
}
static int by_pselect(struct Things* things) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(things->pair[0], &set);
  const struct timespec time = timeout();
  const int result = pselect(things->pair[0] + 1, &set, NULL, NULL, &time, NULL);
  return result == 0 ? ETIMEDOUT : ERRNO_OF(result);
}
static int by_epoll(struct Things* things) {
  struct epoll_event event;
  const int result = epoll_wait(things->epoll, &event, 1, kTimeout / 1000000);
  return result == 0 ? ETIMEDOUT : ERRNO_OF(result);
}
static int by_epoll_pwait(struct Things* things) {
  struct epoll_event event;
  const int result = epoll_pwait(things->epoll, &event, 1, kTimeout / 1000000, NULL);
  return result == 0 ? ETIMEDOUT : ERRNO_OF(result);
}
static int by_sem_timedwait(struct Things* things) {
  const struct timespec time = deadline(CLOCK_REALTIME);
  return ERRNO_OF(sem_timedwait(&things->semaphore, &time));
}
static int by_sem_clockwait(struct Things* things) {
  const struct timespec time = deadline(CLOCK_MONOTONIC);
  return ERRNO_OF(sem_clockwait(&things->semaphore, CLOCK_MONOTONIC, &time));
}
static int by_condition(struct Things* things) {
  const struct timespec time = deadline(CLOCK_REALTIME);
  pthread_mutex_lock(&things->mutex);
  const int error = pthread_cond_timedwait(&things->condition, &things->mutex, &time);
  pthread_mutex_unlock(&things->mutex);
  return error;
}
static int by_futex(struct Things* things) {
  (void)things;
  static int word;
  const struct timespec time = timeout();
  return ERRNO_OF(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &time, NULL, 0));
}
static int by_semtimedop(struct Things* things) {
  struct sembuf take = {0, -1, 0};
  const struct timespec time = {0, kSlowTimeout};
  const int error = ERRNO_OF(semtimedop(things->semaphores, &take, 1, &time));
  return error == EAGAIN ? ETIMEDOUT : error;
}
static int by_sigtimedwait(struct Things* things) {
  (void)things;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  const struct timespec time = timeout();
  const int error = ERRNO_OF(sigtimedwait(&set, NULL, &time));
  return error == EAGAIN ? ETIMEDOUT : error;
}
static int by_recv(struct Things* things) {
  char byte;
  const int error = ERRNO_OF(recv(things->pair[0], &byte, 1, 0));
  return error == EAGAIN ? ETIMEDOUT : error;
}
static int by_recvmmsg(struct Things* things) {
  char byte;
  struct iovec piece = {&byte, 1};
  struct mmsghdr message = {.msg_hdr = {.msg_iov = &piece, .msg_iovlen = 1}};
  const int error = ERRNO_OF(recvmmsg(things->pair[0], &message, 1, 0, NULL));
  return error == EAGAIN ? ETIMEDOUT : error;
}
static int by_accept(struct Things* things) {
  const int error = ERRNO_OF(accept(things->listener, NULL, NULL));
  return error == EAGAIN ? ETIMEDOUT : error;
}
static int by_mq_timedreceive(struct Things* things) {
  const struct timespec time = deadline(CLOCK_REALTIME);
  return ERRNO_OF(mq_timedreceive(things->messages, things->message, sizeof things->message, NULL, &time));
}
static int by_io_getevents(struct Things* things) {
  struct io_event event;
  struct timespec time = timeout();
  const long result = syscall(SYS_io_getevents, things->aio, 1, 1, &event, &time);
  return result == 0 ? ETIMEDOUT : ERRNO_OF(result);
}

// For which another thread has to do something now and then.
#define WOKEN(name)                                \
  static int until_##name(struct Things* things) { \
    return by_##name(&things->woken);              \
  }
WOKEN(msgrcv)
WOKEN(semop)
WOKEN(pause)
WOKEN(read_pipe)
WOKEN(read_eventfd)
WOKEN(read_inotify)
WOKEN(recv_for_ever)
WOKEN(recv_all)
WOKEN(waitpid)
WOKEN(waitid)
WOKEN(flock)
WOKEN(file_lock)

static int by_timerfd(struct Things* things) {
  uint64_t times;
  const struct itimerspec once = {.it_value = timeout()};
  if (timerfd_settime(things->woken.timer, 0, &once, NULL) != 0) return errno;
  return read(things->woken.timer, &times, sizeof times) == sizeof times ? ETIMEDOUT : errno;
}

#define ALONE NULL, NULL
static const struct {
  const char* name;
  Wait wait;
  uint64_t shortest;  // ns
  Wake wake, rearm;   // of those without a timeout
} kWaits[] = {
    {"nanosleep", by_nanosleep, kTimeout, ALONE},
    {"clock_nanosleep", by_clock_nanosleep, kTimeout, ALONE},
    {"absolute_sleep", by_absolute_sleep, kTimeout, ALONE},
    {"usleep", by_usleep, kTimeout, ALONE},
    {"sleep", by_sleep, 1000000000, ALONE},
    {"poll", by_poll, kTimeout, ALONE},
    {"ppoll", by_ppoll, kTimeout, ALONE},
    {"select", by_select, kTimeout, ALONE},
    {"pselect", by_pselect, kTimeout, ALONE},
    {"epoll_wait", by_epoll, kTimeout, ALONE},
    {"epoll_pwait", by_epoll_pwait, kTimeout, ALONE},
    {"sem_timedwait", by_sem_timedwait, kTimeout, ALONE},
    {"sem_clockwait", by_sem_clockwait, kTimeout, ALONE},
    {"pthread_cond_timedwait", by_condition, kTimeout, ALONE},
    {"futex", by_futex, kTimeout, ALONE},
    {"semtimedop", by_semtimedop, kSlowTimeout - kTick, ALONE},
    {"sigtimedwait", by_sigtimedwait, kTimeout, ALONE},
    {"recv", by_recv, kSlowTimeout - kTick, ALONE},
    {"recvmmsg", by_recvmmsg, kSlowTimeout - kTick, ALONE},
    {"accept", by_accept, kSlowTimeout - kTick, ALONE},
    {"mq_timedreceive", by_mq_timedreceive, kTimeout, ALONE},
    {"io_getevents", by_io_getevents, kTimeout, ALONE},
    {"read_timerfd", by_timerfd, kTimeout, ALONE},
    {"msgrcv", until_msgrcv, 0, wake_msgrcv, NULL},
    {"semop", until_semop, 0, wake_semop, NULL},
    {"pause", until_pause, 0, wake_pause, NULL},
    {"read_pipe", until_read_pipe, 0, wake_read_pipe, NULL},
    {"read_eventfd", until_read_eventfd, 0, wake_read_eventfd, NULL},
    {"read_inotify", until_read_inotify, 0, wake_read_inotify, NULL},
    {"recv_for_ever", until_recv_for_ever, 0, wake_recv, NULL},
    {"recv_all", until_recv_all, 0, wake_recv, NULL},
    {"waitpid", until_waitpid, 0, wake_child, NULL},
    {"waitid", until_waitid, 0, wake_child, NULL},
    {"flock", until_flock, 0, wake_flock, rearm_flock},
    {"F_SETLKW", until_file_lock, 0, wake_file_lock, rearm_file_lock},
};
enum { kWaitCount = sizeof kWaits / sizeof *kWaits };

// False when the system lacks one of them.
static int make_things(struct Things* things) {
  const struct timeval slow = {0, kSlowTimeout / 1000};
  things->epoll = epoll_create1(0);
  struct epoll_event readable = {.events = EPOLLIN};
  things->semaphores = semget(IPC_PRIVATE, 1, 0600);
  struct sockaddr_in nowhere = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  things->listener = socket(AF_INET, SOCK_STREAM, 0);
  struct mq_attr small = {.mq_maxmsg = 1, .mq_msgsize = sizeof((struct Things*)0)->message};
  char name[64];
  snprintf(name, sizeof name, "/cpu_waits-%d-%d", (int)getpid(), (int)own_tid());
  things->messages = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &small);
  mq_unlink(name);
  return make_woken(&things->woken) && socketpair(AF_UNIX, SOCK_STREAM, 0, things->pair) == 0 &&
         setsockopt(things->pair[0], SOL_SOCKET, SO_RCVTIMEO, &slow, sizeof slow) == 0 &&
         epoll_ctl(things->epoll, EPOLL_CTL_ADD, things->pair[0], &readable) == 0 &&
         bind(things->listener, (struct sockaddr*)&nowhere, sizeof nowhere) == 0 &&
         listen(things->listener, 1) == 0 &&
         setsockopt(things->listener, SOL_SOCKET, SO_RCVTIMEO, &slow, sizeof slow) == 0 &&
         sem_init(&things->semaphore, 0, 0) == 0 && pthread_mutex_init(&things->mutex, NULL) == 0 &&
         pthread_cond_init(&things->condition, NULL) == 0 && syscall(SYS_io_setup, 1, &things->aio) == 0 &&
         things->semaphores >= 0 && things->messages >= 0;
}

static void remove_things(const struct Things* things) {
  semctl(things->semaphores, 0, IPC_RMID);  // outlives the process otherwise
  remove_woken(&things->woken);
}
