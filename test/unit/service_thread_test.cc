// The service's thread as the program and the kernel see it: what it is, how it ends and begins anew.
#include <catch2/catch.hpp>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <string>

#include <dirent.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/unit/http_test_server.h"

namespace profagent::test {

namespace {

int count_threads() {
  int count = 0;
  DIR* folder = opendir("/proc/self/task");
  while (const dirent* entry = readdir(folder))
    count += entry->d_name[0] != '.';  // NOLINT(concurrency-mt-unsafe)
  closedir(folder);
  return count;
}

}  // namespace

TEST_CASE("the thread receives no signal, has no priority and its own name [D19 H4]") {
  const TestServer server;
  REQUIRE(is_alive(server));
  // All but SIGKILL, SIGSTOP and libc's own two.
  CHECK(thread_status("SigBlk") == "fffffffe7ffbfeff");
  const pid_t tid = std::atoi(thread_status("Pid").c_str());
  CHECK(sched_getscheduler(tid) == SCHED_OTHER);
  CHECK(getpriority(PRIO_PROCESS, static_cast<id_t>(tid)) == std::min(19, getpriority(PRIO_PROCESS, 0) + 10));
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  CHECK(sigismember(&mask, SIGTERM) == 0);
}

TEST_CASE("a real-time creator does not make a real-time service [H4]") {
  sched_param priority = {};
  priority.sched_priority = 1;
  if (sched_setscheduler(0, SCHED_FIFO, &priority) != 0) return;
  const TestServer server;
  priority.sched_priority = 0;
  REQUIRE(sched_setscheduler(0, SCHED_OTHER, &priority) == 0);
  REQUIRE(is_alive(server));
  CHECK(sched_getscheduler(std::atoi(thread_status("Pid").c_str())) == SCHED_OTHER);
}

TEST_CASE("stopping leaves no thread, and a start begins anew") {
  const TestServer server;
  for (int i = 0; i < 20; ++i) {
    const Client waiting(server.port());
    waiting.request("GET", "/debug/pprof/heap?seconds=30");
    if (i % 2 == 0) CHECK(is_alive(server));
    REQUIRE(server.service().stop_and_join());
    CHECK(thread_status("Pid").empty());
    CHECK_FALSE(server.service().is_running());
    // As a program expects that never made one.
    CHECK(count_threads() == 1);
    CHECK(FakeProfiles::collections_begun == FakeProfiles::collections_cancelled);
    REQUIRE(server.start());
    CHECK(is_alive(server));
  }
  CHECK(server.service().stop_and_join());
  CHECK(server.service().stop_and_join());
  CHECK(server.start());
  CHECK(server.start());
}

TEST_CASE("right after stop_and_join() the kernel counts one thread [G3]") {
  const TestServer server;
  int refused = 0;
  for (int i = 0; i < 50; ++i) {
    REQUIRE(is_alive(server));
    REQUIRE(server.service().stop_and_join());
    // Does nothing, and like CLONE_NEWUSER is refused with EINVAL while there is a second thread.
    refused += unshare(CLONE_THREAD) != 0;
    REQUIRE(server.start());
  }
  CHECK(refused == 0);
  CHECK(unshare(CLONE_THREAD) != 0);
}

TEST_CASE("an idle service ends by itself, and a waiting client is seen") {
  TestServer server(1);
  {
    Client client(server.port());
    client.request("GET", "/debug/pprof/heap?seconds=3");
    // A connection is not idle, however long it takes.
    CHECK(Reply(client.read_response()).status == 200);
  }
  REQUIRE(eventually([&] { return !server.service().is_running(); }));
  CHECK_FALSE(server.listeners().client_is_waiting());
  Client client(server.port());
  CHECK(server.listeners().client_is_waiting());
  REQUIRE(server.start());
  client.request("GET", "/debug/pprof/heap");
  CHECK(Reply(client.read_response()).body == kHeapBytes);
}

TEST_CASE("an idle service stays while nobody else would hear clients", "[fault D13]") {
  FakeProfiles::may_retire = false;
  const TestServer server(1);
  std::this_thread::sleep_for(std::chrono::milliseconds(2500));
  CHECK(server.service().is_running());
  FakeProfiles::may_retire = true;
  CHECK(eventually([&] { return !server.service().is_running(); }));
}

TEST_CASE("a forked child can start a service of its own") {
  const TestServer server;
  REQUIRE(is_alive(server));
  // Its thread must not be in the allocator when we fork: a sanitizer's is not made for that.
  REQUIRE(eventually([] { return FakeProfiles::times_tended >= 10; }));
  REQUIRE(eventually([] { return thread_status("State") == "S (sleeping)"; }));
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    server.service().forget_after_fork();
    server.listeners().close_all();
    bool good = !server.service().is_running();
    {
      const TestServer own;
      good = good && own.port() != 0 && is_alive(own);
    }
    _exit(good ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(status == 0);
  CHECK(is_alive(server));
}

TEST_CASE("without threads or descriptors there is no service and no harm [G7]") {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    int failed = 0;
    {
      const TestServer server;
      failed += !is_alive(server);
      failed += !server.service().stop_and_join();
      const auto no_thread = [](pthread_t*, const pthread_attr_t*, void* (*)(void*), void*) -> int {
        return 11;
      };
      service::ServiceOptions options;
      options.listeners = &server.listeners();
      options.create_thread = no_thread;
      failed += server.service().start(options);
      failed += server.service().is_running();
      failed += std::string(server.service().last_problem()).empty();
    }
    _exit(failed);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(status == 0);
}

}  // namespace profagent::test
