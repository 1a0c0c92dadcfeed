// Functions of a library's own under names of libc's, with other parameters. (Of those, libc's headers must
// not be included.)
#pragma once

struct Parcel {
  long parts[6];
};

struct Answers {
  double pause, wait, flock, mutex;
  long select;
  struct Parcel msgrcv;
};

// All of them, in the library's constructor.
extern struct Answers early;

double own_pause(int first, int second) __asm__("pause");
double own_wait(const char* format, ...) __asm__("wait");
long own_select(long a, long b, long c, long d, long e, long f, long g, long h) __asm__("select");
double own_flock(double a, double b, double c, double d, double e, double f, double g, double h,
                 double i) __asm__("flock");
struct Parcel own_msgrcv(struct Parcel parcel, int plus) __asm__("msgrcv");
double own_mtx_lock(double first, long second) __asm__("mtx_lock");
// Not called: libc's usleep() does without it.
int own_nanosleep(void) __asm__("nanosleep");
// Not called, nor by the agent's thread, which waits and receives by other ways.
int own_recv(const char* text) __asm__("recv");
int own_poll(const char* text) __asm__("poll");
int own_epoll_wait(const char* text) __asm__("epoll_wait");

#define CALL_ALL()                                                                               \
  ((struct Answers){                                                                             \
      .pause = own_pause(12, 34),                                                                \
      .wait = own_wait("ididdddddddi", 1, 2.5, 3, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 10.5, 11.5, 12), \
      .select = own_select(1, 2, 3, 4, 5, 6, 7, 8),                                              \
      .mutex = own_mtx_lock(3, 4),                                                               \
      .flock = own_flock(1, 2, 3, 4, 5, 6, 7, 8, 9),                                             \
      .msgrcv = own_msgrcv((struct Parcel){{1, 2, 3, 4, 5, 6}}, 100),                            \
  })
