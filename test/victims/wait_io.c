// Waits once, for 100 ms, in every call of libc that waits for input, time, signals or children: in a
// function calls_X for the call X. Prints for each "X at_least at_most", as wait_calls.c.
//
// All at the same time, but for those that wait for any child.
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <threads.h>

#include "test/victims/asleep.h"
#include "test/victims/kit.h"

ssize_t __read_chk(int descriptor, void* buffer, size_t size, size_t room);
ssize_t __recv_chk(int descriptor, void* buffer, size_t size, size_t room, int flags);
ssize_t __recvfrom_chk(int descriptor, void* buffer, size_t size, size_t room, int flags,
                       struct sockaddr* address, socklen_t* length);
int __poll_chk(struct pollfd* entries, nfds_t count, int timeout, size_t room);
int __ppoll_chk(struct pollfd* entries, nfds_t count, const struct timespec* timeout, const sigset_t* mask,
                size_t room);

struct Place {
  const struct Call* call;
  int ends[2];  // a pair of sockets; the waiter's is the first
  int listener;
  struct sockaddr_un address;
  socklen_t length;
  int other;  // an epoll, a file, a queue or a set of semaphores
  pid_t child;
  pthread_t waiter;
  int tid;
  long long begin;
  long long end;
  long long known;
};

struct Call {
  const char* name;
  void (*prepare)(struct Place*);
  void (*wait)(struct Place*);
  void (*release)(struct Place*);
};

static const struct timespec kMinute = {60, 0};
static const struct timespec kTenth = {0, 100000000};

#define CALL(name, ...)                                         \
  NOINLINE static void calls_##name(struct Place* place) {      \
    char byte = 0;                                              \
    struct iovec part = {&byte, 1};                             \
    struct pollfd entry = {place->ends[0], POLLIN, 0};          \
    USE(&byte);                                                 \
    USE(&part);                                                 \
    USE(&entry);                                                \
    place->begin = now_ns();                                    \
    __atomic_store_n(&place->tid, own_tid(), __ATOMIC_RELEASE); \
    __VA_ARGS__;                                                \
    END_OF_FRAME();                                             \
  }

// Input.
static void nothing(struct Place* p) {
  (void)p;
}
static void send_byte(struct Place* p) {
  if (write(p->ends[1], "x", 1) != 1) _exit(3);
}
CALL(read, if (read(place->ends[0], &byte, 1) != 1) _exit(4))
CALL(__read_chk, if (__read_chk(place->ends[0], &byte, 1, 1) != 1) _exit(4))
CALL(readv, if (readv(place->ends[0], &part, 1) != 1) _exit(4))
CALL(recv, recv(place->ends[0], &byte, 1, 0))
CALL(__recv_chk, __recv_chk(place->ends[0], &byte, 1, 1, 0))
CALL(recvfrom, recvfrom(place->ends[0], &byte, 1, 0, NULL, NULL))
CALL(__recvfrom_chk, __recvfrom_chk(place->ends[0], &byte, 1, 1, 0, NULL, NULL))
CALL(recvmsg, {
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  recvmsg(place->ends[0], &message, 0);
})
CALL(recvmmsg, {
  struct mmsghdr message = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
  recvmmsg(place->ends[0], &message, 1, 0, NULL);
})
CALL(poll, poll(&entry, 1, 60000))
CALL(__poll_chk, __poll_chk(&entry, 1, 60000, sizeof entry))
CALL(ppoll, ppoll(&entry, 1, &kMinute, NULL))
CALL(__ppoll_chk, __ppoll_chk(&entry, 1, &kMinute, NULL, sizeof entry))
CALL(select, {
  fd_set readable;
  FD_ZERO(&readable);
  FD_SET(place->ends[0], &readable);
  struct timeval minute = {60, 0};
  select(place->ends[0] + 1, &readable, NULL, NULL, &minute);
})
CALL(pselect, {
  fd_set readable;
  FD_ZERO(&readable);
  FD_SET(place->ends[0], &readable);
  pselect(place->ends[0] + 1, &readable, NULL, NULL, &kMinute, NULL);
})
static void make_epoll(struct Place* p) {
  struct epoll_event event = {.events = EPOLLIN};
  p->other = epoll_create1(EPOLL_CLOEXEC);
  epoll_ctl(p->other, EPOLL_CTL_ADD, p->ends[0], &event);
}
CALL(epoll_wait, {
  struct epoll_event event;
  epoll_wait(place->other, &event, 1, 60000);
})
CALL(epoll_pwait, {
  struct epoll_event event;
  epoll_pwait(place->other, &event, 1, 60000, NULL);
})
CALL(epoll_pwait2, {
  struct epoll_event event;
  epoll_pwait2(place->other, &event, 1, &kMinute, NULL);
})

// Connections, by a name in the abstract space, which is ours by our id.
static int connect_to(struct Place* p) {
  const int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(client, (struct sockaddr*)&p->address, p->length) != 0) _exit(5);
  return client;
}
static void listen_here(struct Place* p) {
  p->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  p->address.sun_family = AF_UNIX;
  const int length = snprintf(p->address.sun_path + 1, 64, "wait_io.%d.%p", (int)getpid(), (void*)p);
  p->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
  if (bind(p->listener, (struct sockaddr*)&p->address, p->length) != 0 || listen(p->listener, 0) != 0)
    _exit(5);
}
static void listen_full(struct Place* p) {
  listen_here(p);
  p->other = connect_to(p);  // one is all that wait unaccepted
}
static void connect_once(struct Place* p) {
  p->other = connect_to(p);
}
static void accept_one(struct Place* p) {
  p->other = accept(p->listener, NULL, NULL);
}
CALL(accept, accept(place->listener, NULL, NULL))
CALL(accept4, accept4(place->listener, NULL, NULL, SOCK_CLOEXEC))
CALL(connect, connect_to(place))

// Files, queues and sets of semaphores.
static void lock_file(struct Place* p) {
  char path[64];
  p->listener = memfd_create("locked", MFD_CLOEXEC);
  snprintf(path, sizeof path, "/proc/self/fd/%d", p->listener);
  p->other = open(path, O_RDWR | O_CLOEXEC);
  flock(p->listener, LOCK_EX);
}
static void unlock_file(struct Place* p) {
  flock(p->listener, LOCK_UN);
}
CALL(flock, flock(place->other, LOCK_EX))
struct Message {
  long type;
  char text[8];
};
static void make_queue(struct Place* p) {
  p->other = msgget(IPC_PRIVATE, 0600);
}
static void send_message(struct Place* p) {
  const struct Message message = {1, "x"};
  msgsnd(p->other, &message, sizeof message.text, 0);
  sleep_ms(1);
}
CALL(msgrcv, {
  struct Message message;
  msgrcv(place->other, &message, sizeof message.text, 0, 0);
  msgctl(place->other, IPC_RMID, NULL);
})
static void make_set(struct Place* p) {
  p->other = semget(IPC_PRIVATE, 1, 0600);
}
static void raise_set(struct Place* p) {
  struct sembuf up = {0, 1, 0};
  semop(p->other, &up, 1);
}
CALL(semop, {
  struct sembuf down = {0, -1, 0};
  semop(place->other, &down, 1);
  semctl(place->other, 0, IPC_RMID);
})
CALL(semtimedop, {
  struct sembuf down = {0, -1, 0};
  semtimedop(place->other, &down, 1, &kMinute);
  semctl(place->other, 0, IPC_RMID);
})

// Time: what is known is what was asked for.
CALL(nanosleep, nanosleep(&kTenth, NULL))
CALL(clock_nanosleep, clock_nanosleep(CLOCK_MONOTONIC, 0, &kTenth, NULL))
CALL(usleep, usleep(100000))
CALL(thrd_sleep, thrd_sleep(&kTenth, NULL))
static void hit(struct Place* p) {
  pthread_kill(p->waiter, SIGUSR1);
}
CALL(sleep, sleep(60))

// Signals to this very thread.
CALL(pause, pause())
CALL(sigsuspend, {
  sigset_t none;
  sigemptyset(&none);
  sigsuspend(&none);
})
#define WITH_USR2            \
  sigset_t usr2;             \
  sigemptyset(&usr2);        \
  sigaddset(&usr2, SIGUSR2); \
  pthread_sigmask(SIG_BLOCK, &usr2, NULL);
static void hit_blocked(struct Place* p) {
  pthread_kill(p->waiter, SIGUSR2);
}
CALL(sigwait, {
  int number;
  WITH_USR2
  sigwait(&usr2, &number);
})
CALL(sigwaitinfo, {
  siginfo_t info;
  WITH_USR2
  sigwaitinfo(&usr2, &info);
})
CALL(sigtimedwait, {
  siginfo_t info;
  WITH_USR2
  sigtimedwait(&usr2, &info, &kMinute);
})

// Children: one that lives until its pipe closes.
static void make_child(struct Place* p) {
  p->child = fork();
  if (p->child == 0) {
    char byte;
    close(p->ends[1]);
    while (read(p->ends[0], &byte, 1) == 1) {
    }
    _exit(0);
  }
}
static void end_child(struct Place* p) {
  shutdown(p->ends[1], SHUT_RDWR);
}
CALL(wait, wait(NULL))
CALL(wait3, wait3(NULL, 0, NULL))
CALL(wait4, wait4(place->child, NULL, 0, NULL))
CALL(waitpid, waitpid(place->child, NULL, 0))
CALL(waitid, {
  siginfo_t info;
  waitid(P_PID, (id_t)place->child, &info, WEXITED);
})

#define ROW(name, prepare, release) \
  { #name, prepare, calls_##name, release }
static const struct Call kCalls[] = {
    ROW(read, nothing, send_byte),
    ROW(__read_chk, nothing, send_byte),
    ROW(readv, nothing, send_byte),
    ROW(recv, nothing, send_byte),
    ROW(__recv_chk, nothing, send_byte),
    ROW(recvfrom, nothing, send_byte),
    ROW(__recvfrom_chk, nothing, send_byte),
    ROW(recvmsg, nothing, send_byte),
    ROW(recvmmsg, nothing, send_byte),
    ROW(poll, nothing, send_byte),
    ROW(__poll_chk, nothing, send_byte),
    ROW(ppoll, nothing, send_byte),
    ROW(__ppoll_chk, nothing, send_byte),
    ROW(select, nothing, send_byte),
    ROW(pselect, nothing, send_byte),
    ROW(epoll_wait, make_epoll, send_byte),
    ROW(epoll_pwait, make_epoll, send_byte),
    ROW(epoll_pwait2, make_epoll, send_byte),
    ROW(accept, listen_here, connect_once),
    ROW(accept4, listen_here, connect_once),
    ROW(connect, listen_full, accept_one),
    ROW(flock, lock_file, unlock_file),
    ROW(msgrcv, make_queue, send_message),
    ROW(semop, make_set, raise_set),
    ROW(semtimedop, make_set, raise_set),
    ROW(nanosleep, nothing, nothing),
    ROW(clock_nanosleep, nothing, nothing),
    ROW(usleep, nothing, nothing),
    ROW(thrd_sleep, nothing, nothing),
    ROW(sleep, nothing, hit),
    ROW(pause, nothing, hit),
    ROW(sigsuspend, nothing, hit),
    ROW(sigwait, nothing, hit_blocked),
    ROW(sigwaitinfo, nothing, hit_blocked),
    ROW(sigtimedwait, nothing, hit_blocked),
    ROW(wait4, make_child, end_child),
    ROW(waitpid, make_child, end_child),
    ROW(waitid, make_child, end_child),
    // Any child is theirs, so they come when the others have theirs.
    ROW(wait, make_child, end_child),
    ROW(wait3, make_child, end_child),
};
enum { kCount = sizeof kCalls / sizeof kCalls[0], kForAnyChild = 2 };
static struct Place places[kCount];

static void on_signal(int number) {
  (void)number;
}

static void* wait_here(void* argument) {
  struct Place* place = argument;
  place->call->wait(place);
  place->end = now_ns();
  return NULL;
}

static void* end_wait_of(void* argument) {
  struct Place* place = argument;
  pthread_create(&place->waiter, NULL, wait_here, place);
  await_sleep(&place->tid);
  const long long asleep = now_ns();
  if (place->call->release == nothing) {
    place->known = kTenth.tv_nsec;
  } else {
    sleep_ms(100);
    place->known = now_ns() - asleep;
    place->call->release(place);
  }
  pthread_join(place->waiter, NULL);
  return NULL;
}

int main(void) {
  pthread_t threads[kCount];
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_signal;
  sigaction(SIGUSR1, &action, NULL);
  // Before there are threads, for the children's sake.
  for (int i = 0; i < kCount; ++i) {
    places[i].call = &kCalls[i];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, places[i].ends) != 0) return 2;
    kCalls[i].prepare(&places[i]);
  }
  for (int i = 0; i < kCount - kForAnyChild; ++i) pthread_create(&threads[i], NULL, end_wait_of, &places[i]);
  for (int i = 0; i < kCount - kForAnyChild; ++i) pthread_join(threads[i], NULL);
  for (int i = kCount - kForAnyChild; i < kCount; ++i) end_wait_of(&places[i]);
  for (int i = 0; i < kCount; ++i) {
    char line[128];
    snprintf(line, sizeof line, "%s %lld %lld\n", kCalls[i].name, places[i].known,
             places[i].end - places[i].begin);
    say(line);
  }
  serve_until_end();
  return 0;
}
