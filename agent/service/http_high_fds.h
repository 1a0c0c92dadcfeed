// For http_asio.h: what Asio gets when it asks for its descriptors.
#pragma once

#include <ctime>

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include "agent/service/fd_table.h"

inline int profagent_high_epoll_create1(int flags) {
  const int fd = epoll_create1(flags);
  return fd < 0 ? fd : profagent::service::move_fd_high(fd);
}

inline int profagent_high_eventfd(unsigned value, int flags) {
  const int fd = eventfd(value, flags);
  return fd < 0 ? fd : profagent::service::move_fd_high(fd);
}

inline int profagent_high_timerfd_create(clockid_t clock, int flags) {
  const int fd = timerfd_create(clock, flags);
  return fd < 0 ? fd : profagent::service::move_fd_high(fd);
}
