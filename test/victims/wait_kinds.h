// Every wait with a timeout that a program may be in: one function each, on things of its own. A signal with
// a handler, SA_RESTART or not, ends most of them with EINTR (signal(7)).
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

// What a thread waits on; its own, so that nobody wakes another's.
struct Things {
  int epoll, pair[2], semaphores, queue;
  sem_t semaphore;
  pthread_mutex_t mutex;
  pthread_cond_t condition;
  aio_context_t aio;
  mqd_t messages;
  char message[64];
  int listener;
};

// Each returns the wait's errno, 0 when it ended as if something had come.
typedef int (*Wait)(struct Things* things);
#define ERRNO_OF(call) ((call) < 0 ? errno : 0)

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

static const struct {
  const char* name;
  Wait wait;
  uint64_t shortest;  // ns
} kWaits[] = {
    {"nanosleep", by_nanosleep, kTimeout},
    {"clock_nanosleep", by_clock_nanosleep, kTimeout},
    {"absolute_sleep", by_absolute_sleep, kTimeout},
    {"usleep", by_usleep, kTimeout},
    {"sleep", by_sleep, 1000000000},
    {"poll", by_poll, kTimeout},
    {"ppoll", by_ppoll, kTimeout},
    {"select", by_select, kTimeout},
    {"pselect", by_pselect, kTimeout},
    {"epoll_wait", by_epoll, kTimeout},
    {"sem_timedwait", by_sem_timedwait, kTimeout},
    {"sem_clockwait", by_sem_clockwait, kTimeout},
    {"pthread_cond_timedwait", by_condition, kTimeout},
    {"futex", by_futex, kTimeout},
    {"semtimedop", by_semtimedop, kSlowTimeout - kTick},
    {"sigtimedwait", by_sigtimedwait, kTimeout},
    {"recv", by_recv, kSlowTimeout - kTick},
    {"recvmmsg", by_recvmmsg, kSlowTimeout - kTick},
    {"accept", by_accept, kSlowTimeout - kTick},
    {"mq_timedreceive", by_mq_timedreceive, kTimeout},
    {"io_getevents", by_io_getevents, kTimeout},
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
  return socketpair(AF_UNIX, SOCK_STREAM, 0, things->pair) == 0 &&
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
}
