// The service's descriptors and the program's do not meet.
#include <catch2/catch.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <initializer_list>
#include <set>
#include <string>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/unit/http_test_server.h"

namespace profagent::test {

namespace {

std::string service_task_folder() {
  return "/proc/self/task/" + thread_status("Pid");
}

std::set<std::string> links_in(const std::string& folder) {
  std::set<std::string> links;
  DIR* opened = opendir(folder.c_str());
  while (const dirent* entry = readdir(opened)) {  // NOLINT(concurrency-mt-unsafe)
    char target[256];
    const ssize_t length = readlink((folder + "/" + entry->d_name).c_str(), target, sizeof(target));
    const bool is_itself = entry->d_name == std::to_string(dirfd(opened));
    if (length > 0 && !is_itself)
      links.insert(std::string(entry->d_name) + " -> " +
                   std::string(target, static_cast<std::size_t>(length)));
  }
  closedir(opened);
  return links;
}

// From now on these system calls answer EPERM in this process, as in a container.
void forbid(std::initializer_list<int> calls) {
  std::vector<sock_filter> program = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const int call : calls) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call), 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog filter = {static_cast<unsigned short>(program.size()), program.data()};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) _exit(100);
}

}  // namespace

TEST_CASE(
    "the service has descriptors of its own: none of the program's, and the program none of its [F8 F9 "
    "F10]") {
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  const std::set<std::string> before = links_in("/proc/self/fd");
  const TestServer server;
  const Client client(server.port());
  client.request("GET", "/debug/pprof/heap?seconds=30");
  REQUIRE(eventually([] { return FakeProfiles::collections_begun == 1; }));

  std::size_t new_links = 0;
  for (const std::string& link : links_in("/proc/self/fd")) {
    if (before.contains(link)) continue;
    ++new_links;
    // The client's, and three high ones.
    CHECK((std::atoi(link.c_str()) >= 1000 || std::atoi(link.c_str()) == client.fd()));
  }
  CHECK(new_links == 4);
  for (const std::string& link : links_in(service_task_folder() + "/fd")) {
    CAPTURE(link);
    CHECK(link.find("pipe:") == std::string::npos);
    const int number = std::atoi(link.c_str());
    if (number <= 2) CHECK(link.ends_with("/dev/null"));
  }
  // The reader sees the end: nobody else holds the writer.
  close(ends[1]);
  char byte = 0;
  CHECK(read(ends[0], &byte, 1) == 0);
  close(ends[0]);
}

TEST_CASE("a program that closes everything and reuses the numbers changes nothing [F8]") {
  char name[] = "/tmp/profagent-test-XXXXXX";
  const int file = mkstemp(name);
  {
    const TestServer server;
    REQUIRE(is_alive(server));
    std::vector<int> numbers;
    for (const service::Listener& listener : server.listeners().all()) {
      REQUIRE(dup2(file, listener.fd) == listener.fd);
      numbers.push_back(listener.fd);
    }
    for (int i = 0; i < 20; ++i) CHECK(is_alive(server));
    // The way to wake it up is gone: it is stopped through a connection instead.
    CHECK(server.service().stop_and_join());
    for (const int number : numbers) {
      CHECK(fcntl(number, F_GETFD) != -1);
      close(number);
    }
  }
  struct stat status = {};
  fstat(file, &status);
  CHECK(status.st_size == 0);
  close(file);
  unlink(name);
}

TEST_CASE(
    "where the kernel refuses a table of our own, high numbers serve, and a robbed service ends [F8 F9]") {
  const pid_t child = fork();
  if (child == 0) {
    alarm(30);
    forbid({SYS_close_range, SYS_unshare});
    int failed = 0;
    const int lowest = dup(0);
    close(lowest);
    {
      const TestServer server;
      failed += !is_alive(server);
      failed +=
          get(server, "/debug/pprof/agent").body.find("in the program's table") == std::string::npos ? 2 : 0;
      const int still_lowest = dup(0);
      close(still_lowest);
      failed += still_lowest != lowest ? 4 : 0;
      failed += !server.service().stop_and_join() || !server.start() || !is_alive(server) ? 8 : 0;
      const int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
      for (int number = 900; number < 1100; ++number) {
        if (fcntl(number, F_GETFD) != -1) dup2(file, number);
      }
      failed += eventually([&] { return !server.service().is_running(); }) ? 0 : 16;
      int kept = 0;
      for (int number = 900; number < 1100; ++number) kept += fcntl(number, F_GETFD) != -1;
      // Three listeners', three of Asio's.
      failed += kept < 6 ? 32 : 0;
    }
    _exit(failed);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(status == 0);
}

}  // namespace profagent::test
