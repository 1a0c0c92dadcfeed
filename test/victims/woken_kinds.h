// Waits without a timeout: for each how to wait, and how another thread ends the wait. They return ETIMEDOUT
// when they have ended as they should, else the errno; EINTR also when less has come than was waited for.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define ERRNO_OF(call) ((call) < 0 ? errno : 0)

struct Woken {
  int is_waiting;  // set and cleared by the one who waits
  int queue, semaphore, bytes[2], event, watch, pair[2], timer;
  int files[2];  // two openings of one file; who wakes has locked the first, or not
  int is_locked, is_stopped;
  pthread_t thread;
  pid_t child;
};
typedef void (*Wake)(struct Woken* woken);

static int as_it_should(int has_come) {
  return has_come ? ETIMEDOUT : EINTR;
}

struct Letter {
  long type;
  char text[8];
};
static int by_msgrcv(struct Woken* woken) {
  struct Letter letter;
  const ssize_t got = msgrcv(woken->queue, &letter, sizeof letter.text, 0, 0);
  return got < 0 ? errno : as_it_should(got == sizeof letter.text);
}
static void wake_msgrcv(struct Woken* woken) {
  const struct Letter letter = {1, "letter"};
  msgsnd(woken->queue, &letter, sizeof letter.text, IPC_NOWAIT);
}

static int by_semop(struct Woken* woken) {
  struct sembuf take = {0, -1, 0};
  const int error = ERRNO_OF(semop(woken->semaphore, &take, 1));
  return error == 0 ? ETIMEDOUT : error;
}
static void wake_semop(struct Woken* woken) {
  semctl(woken->semaphore, 0, SETVAL, 1);
}

static __thread volatile sig_atomic_t wake_signals;
static void note_signal(int number) {
  (void)number;
  ++wake_signals;
}
static int by_pause(struct Woken* woken) {
  (void)woken;
  const sig_atomic_t before = wake_signals;
  pause();
  return as_it_should(wake_signals != before);
}
static void wake_pause(struct Woken* woken) {
  pthread_kill(woken->thread, SIGUSR1);
}

static int by_read(int descriptor, void* room, size_t size) {
  const ssize_t got = read(descriptor, room, size);
  return got < 0 ? errno : as_it_should(got > 0);
}
static int by_read_pipe(struct Woken* woken) {
  char byte;
  return by_read(woken->bytes[0], &byte, 1);
}
static void wake_read_pipe(struct Woken* woken) {
  if (write(woken->bytes[1], "", 1) != 1) END_OF_FRAME();
}
static int by_read_eventfd(struct Woken* woken) {
  uint64_t count;
  return by_read(woken->event, &count, sizeof count);
}
static void wake_read_eventfd(struct Woken* woken) {
  eventfd_write(woken->event, 1);
}
static int by_read_inotify(struct Woken* woken) {
  char events[1024];
  return by_read(woken->watch, events, sizeof events);
}
static void wake_read_inotify(struct Woken* woken) {
  if (pwrite(woken->files[1], "", 1, 0) != 1) END_OF_FRAME();
}

enum { kPart = 10, kWhole = 3 * kPart };
static int by_recv_for_ever(struct Woken* woken) {
  char part[kPart];
  const ssize_t got = recv(woken->pair[0], part, sizeof part, 0);
  return got < 0 ? errno : as_it_should(got > 0);
}
static int by_recv_all(struct Woken* woken) {
  char whole[kWhole];
  const ssize_t got = recv(woken->pair[0], whole, sizeof whole, MSG_WAITALL);
  return got < 0 ? errno : as_it_should(got == kWhole);
}
static void wake_recv(struct Woken* woken) {
  static const char part[kPart];
  send(woken->pair[1], part, sizeof part, MSG_DONTWAIT);
}

static int by_waitpid(struct Woken* woken) {
  int status;
  const int error = ERRNO_OF(waitpid(woken->child, &status, WUNTRACED | WCONTINUED));
  return error == 0 ? ETIMEDOUT : error;
}
static int by_waitid(struct Woken* woken) {
  siginfo_t status;
  const int error = ERRNO_OF(waitid(P_PID, (id_t)woken->child, &status, WSTOPPED | WCONTINUED));
  return error == 0 ? ETIMEDOUT : error;
}
static void wake_child(struct Woken* woken) {
  kill(woken->child, woken->is_stopped ? SIGCONT : SIGSTOP);
  woken->is_stopped = !woken->is_stopped;
}

static int by_flock(struct Woken* woken) {
  const int error = ERRNO_OF(flock(woken->files[1], LOCK_EX));
  if (error != 0) return error;
  flock(woken->files[1], LOCK_UN);
  return ETIMEDOUT;
}
static void wake_flock(struct Woken* woken) {
  if (woken->is_locked) flock(woken->files[0], LOCK_UN);
  woken->is_locked = 0;
}
static void rearm_flock(struct Woken* woken) {
  if (!woken->is_locked) woken->is_locked = flock(woken->files[0], LOCK_EX | LOCK_NB) == 0;
}

// Of the opened file, because two threads of a process do not keep each other out of the older ones. The wait
// in the kernel is the same.
static int lock_file(int file, int command, short type) {
  struct flock lock = {.l_type = type, .l_whence = SEEK_SET};
  return fcntl(file, command, &lock);
}
static int by_file_lock(struct Woken* woken) {
  const int error = ERRNO_OF(lock_file(woken->files[1], F_OFD_SETLKW, F_WRLCK));
  if (error != 0) return error;
  lock_file(woken->files[1], F_OFD_SETLK, F_UNLCK);
  return ETIMEDOUT;
}
static void wake_file_lock(struct Woken* woken) {
  if (woken->is_locked) lock_file(woken->files[0], F_OFD_SETLK, F_UNLCK);
  woken->is_locked = 0;
}
static void rearm_file_lock(struct Woken* woken) {
  if (!woken->is_locked) woken->is_locked = lock_file(woken->files[0], F_OFD_SETLK, F_WRLCK) == 0;
}

// Past our hooks of fork, for it is not to be profiled. It ends with its parent.
static pid_t make_child(void) {
  const pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (child != 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  close(0);
  close(1);
  close(2);
  for (;;) syscall(SYS_pause);
}

// False when the system lacks one of them.
static int make_woken(struct Woken* woken) {
  struct sigaction action = {.sa_handler = note_signal};
  sigaction(SIGUSR1, &action, NULL);
  woken->queue = msgget(IPC_PRIVATE, 0600);
  woken->semaphore = semget(IPC_PRIVATE, 1, 0600);
  woken->event = eventfd(0, 0);
  woken->watch = inotify_init1(0);
  woken->timer = timerfd_create(CLOCK_MONOTONIC, 0);
  woken->child = make_child();
  woken->files[0] = memfd_create("locked", 0);
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", woken->files[0]);
  woken->files[1] = open(path, O_RDWR);
  return pipe2(woken->bytes, O_CLOEXEC) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, woken->pair) == 0 &&
         woken->queue >= 0 && woken->semaphore >= 0 && woken->event >= 0 && woken->timer >= 0 &&
         woken->child > 0 && woken->files[1] >= 0 && inotify_add_watch(woken->watch, path, IN_MODIFY) >= 0;
}

static void remove_woken(const struct Woken* woken) {
  msgctl(woken->queue, IPC_RMID, NULL);
  semctl(woken->semaphore, 0, IPC_RMID);
  kill(woken->child, SIGKILL);
}
