// Asio, for http_session.cc and http_server.cc: always through this header, also before other parts of Boost.
// Asio's own descriptors must not take the numbers that the program counts on, and it offers no way to say
// so; and an assertion that fails must not end the program (http_asio.cc).
#pragma once

#define BOOST_ENABLE_ASSERT_HANDLER

// Before Asio: Boost 1.74 uses std::exchange without including it.
#include <utility>

#include "agent/service/http_assert.h"
#include "agent/service/http_high_fds.h"

#define epoll_create1 profagent_high_epoll_create1
#define eventfd profagent_high_eventfd
#define timerfd_create profagent_high_timerfd_create
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#undef epoll_create1
#undef eventfd
#undef timerfd_create
