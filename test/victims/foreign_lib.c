#include "test/victims/foreign_lib.h"

#include <stdarg.h>

struct Answers early;

double own_pause(int first, int second) {
  return first * 1000.0 + second;
}

// The sum of what the format says: a 'd' is a double, an 'i' an int.
double own_wait(const char* format, ...) {
  double sum = 0;
  va_list list;
  va_start(list, format);
  for (; *format != '\0'; ++format) sum += *format == 'd' ? va_arg(list, double) : va_arg(list, int);
  va_end(list);
  return sum;
}

long own_select(long a, long b, long c, long d, long e, long f, long g, long h) {
  return a + 10 * (b + 10 * (c + 10 * (d + 10 * (e + 10 * (f + 10 * (g + 10 * h))))));
}

double own_flock(double a, double b, double c, double d, double e, double f, double g, double h, double i) {
  return a + 10 * (b + 10 * (c + 10 * (d + 10 * (e + 10 * (f + 10 * (g + 10 * (h + 10 * i)))))));
}

struct Parcel own_msgrcv(struct Parcel parcel, int plus) {
  for (int i = 0; i < 6; ++i) parcel.parts[i] += plus;
  return parcel;
}

double own_mtx_lock(double first, long second) {
  return first * 10 + (double)second;
}

int own_nanosleep(void) {
  return 4711;
}

int own_recv(const char* text) {
  return *text;
}

int own_poll(const char* text) {
  return *text;
}

int own_epoll_wait(const char* text) {
  return *text;
}

// Before the agent's constructor.
__attribute__((constructor)) static void call_early(void) {
  early = CALL_ALL();
}
