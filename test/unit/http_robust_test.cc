// What a client can do wrong, and what the program can do to the service.
#include <catch2/catch.hpp>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <initializer_list>
#include <memory>
#include <new>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/unit/http_test_server.h"

namespace profagent::test {

namespace {

constexpr uid_t kStranger = 65534;

// The service whose next allocation fails.
std::atomic<const service::Service*> out_of_memory{nullptr};

bool is_alive(const TestServer& server) {
  return get(server, "/debug/pprof/heap").body == kHeapBytes;
}

// The line "KEY:\tVALUE" of the service thread's status.
std::string thread_status(const std::string& key) {
  DIR* folder = opendir("/proc/self/task");
  std::string result;
  while (const dirent* entry = readdir(folder)) {  // NOLINT(concurrency-mt-unsafe)
    std::ifstream status(std::string("/proc/self/task/") + entry->d_name + "/status");
    std::string line;
    bool is_service = false;
    while (std::getline(status, line)) {
      is_service = is_service || line == "Name:\tprofagent";
      if (is_service && line.starts_with(key + ":\t")) result = line.substr(key.size() + 2);
    }
  }
  closedir(folder);
  return result;
}

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

int count_threads() {
  int count = 0;
  DIR* folder = opendir("/proc/self/task");
  while (const dirent* entry = readdir(folder))
    count += entry->d_name[0] != '.';  // NOLINT(concurrency-mt-unsafe)
  closedir(folder);
  return count;
}

std::string raw(const TestServer& server, std::string_view bytes) {
  const Client client(server.port());
  client.send(bytes);
  return client.read_all();
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

template <typename Condition>
bool soon(Condition condition) {
  for (int i = 0; i < 500; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

std::int64_t number_fact(const TestServer& server, std::string_view name) {
  for (const service::Fact& fact : server.service().facts()) {
    if (fact.name == name) return std::get<std::int64_t>(fact.value);
  }
  return -1;
}

void fail_when_asked_to() {
  const service::Service* service = out_of_memory.load();
  if (service == nullptr || !service->is_this_thread()) return;
  out_of_memory = nullptr;
  throw std::bad_alloc();
}

}  // namespace

}  // namespace profagent::test

// Not inlined: the compiler would find that they do not match where it has inlined only one of them.
[[gnu::noinline]] void* operator new(std::size_t size) {
  profagent::test::fail_when_asked_to();
  if (void* block = std::malloc(size)) return block;
  throw std::bad_alloc();
}

// Catch2's.
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t& /*tag*/) noexcept {
  return std::malloc(size);
}

[[gnu::noinline]] void operator delete(void* block) noexcept {
  std::free(block);
}

[[gnu::noinline]] void operator delete(void* block, std::size_t /*size*/) noexcept {
  std::free(block);
}

namespace profagent::test {

TEST_CASE("what is not HTTP is answered with 400 and the end [H18 J12]") {
  const TestServer server;
  for (const std::string& bytes :
       {std::string("hello\r\n\r\n"), std::string("GET\r\n\r\n"), std::string("GET / HTTP/9.9\r\n\r\n"),
        std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11) + std::string(300, '\0'),
        std::string("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nbad header\r\n\r\n"),
        std::string("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 29),
        std::string("POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
                    "chunked\r\n\r\nzz\r\n")}) {
    CAPTURE(bytes);
    const Reply reply(raw(server, bytes));
    CHECK((reply.status == 400 || reply.status == 413));
    CHECK(reply.has("Connection: close"));
  }
  CHECK(is_alive(server));
}

TEST_CASE("what follows an unknown encoding is not taken for a request [J12]") {
  const TestServer server;
  const Reply reply(
      raw(server,
          "POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: zip\r\n\r\n"
          "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  CHECK(reply.status == 501);
  CHECK(reply.has("Connection: close"));
  CHECK(reply.body == "501 Unsupported transfer encoding\n");
}

TEST_CASE("oversized headers and targets get 431 and do no harm [H18]") {
  const TestServer server;
  const std::string small =
      "GET /debug/pprof/heap?x=" + std::string(8192, 'a') + " HTTP/1.1\r\nHost: localhost\r\n";
  CHECK(Reply(raw(server, small + "Connection: close\r\n\r\n")).status == 200);
  CHECK(Reply(raw(server, "GET / HTTP/1.1\r\nX: " + std::string(64 << 10, 'a') + "\r\n\r\n")).status == 431);
  CHECK(Reply(raw(server, "GET /" + std::string(1 << 20, 'a') + " HTTP/1.1\r\n\r\n")).status == 431);
  std::string many = "GET / HTTP/1.1\r\n";
  for (int i = 0; i < 5000; ++i) many += "X: y\r\n";
  CHECK(Reply(raw(server, many + "\r\n")).status == 431);
  CHECK(is_alive(server));
}

TEST_CASE("half-open and slow clients hold up nobody [H18 J9]") {
  const TestServer server;
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(std::make_unique<Client>(server.port()));
    if (i % 2 == 0) clients.back()->send("GET /debug/pprof/he");
  }
  CHECK(is_alive(server));
  // After five seconds an unfinished header is given up; a connection that has said nothing is only idle.
  for (int i = 0; i < 20; i += 2) CHECK(clients[static_cast<std::size_t>(i)]->read_all().empty());
  clients[1]->request("GET", "/debug/pprof/heap");
  CHECK(Reply(clients[1]->read_response()).body == kHeapBytes);
}

TEST_CASE("a byte a second is too slow for a header") {
  const TestServer server;
  const Client client(server.port());
  const std::string request = "GET /debug/pprof/heap HTTP/1.1\r\nHost: localhost\r\n\r\n";
  std::size_t sent = 0;
  while (sent < request.size() && client.send(request.substr(sent, 1))) {
    ++sent;
    CHECK(is_alive(server));
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  CHECK(sent < request.size());
}

TEST_CASE("a hundred clients that leave in the middle cancel a hundred collections [D11 J10]") {
  const TestServer server;
  for (int i = 0; i < 100; ++i) {
    const Client client(server.port());
    client.request("GET", "/debug/pprof/heap?seconds=30");
    if (i % 3 == 0) {
      const linger abort{1, 0};  // a reset instead of an end
      setsockopt(client.fd(), SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
    }
    REQUIRE(soon([&] { return FakeProfiles::collections_begun == i + 1; }));
  }
  CHECK(soon([] { return FakeProfiles::collections_cancelled == 100; }));
  CHECK(is_alive(server));
  struct sigaction action = {};
  sigaction(SIGPIPE, nullptr, &action);
  CHECK(action.sa_handler == SIG_DFL);
}

TEST_CASE("a client that sends ahead while it waits and leaves is noticed too") {
  const TestServer server;
  {
    const Client client(server.port());
    client.request("GET", "/debug/pprof/heap?seconds=30");
    client.send(std::string(20000, 'x'));
    REQUIRE(soon([] { return FakeProfiles::collections_begun == 1; }));
  }
  CHECK(soon([] { return FakeProfiles::collections_cancelled == 1; }));
}

TEST_CASE("beyond 64 connections every new one is told so, the others go on [J9]") {
  const TestServer server;
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 64; ++i) {
    clients.push_back(std::make_unique<Client>(server.port()));
    clients.back()->request("GET", "/debug/pprof/heap");
    CHECK(Reply(clients.back()->read_response()).status == 200);
  }
  {
    // Some more than are taken from the kernel's queue at a time.
    std::vector<std::unique_ptr<Client>> late;
    for (int i = 0; i < 20; ++i) {
      late.push_back(std::make_unique<Client>(server.port()));
      late.back()->request("GET", "/debug/pprof/heap");
    }
    CHECK(soon([&] { return number_fact(server, "connections_open") == 80; }));
    for (auto& client : late) {
      const Reply refusal(client->read_all());
      CHECK(number_fact(server, "connections_open") <= 80);
      client.reset();
      CHECK(refusal.status == 503);
      CHECK(refusal.has("X-Go-Pprof: 1"));
      CHECK(refusal.has("Retry-After: 1"));
      CHECK(refusal.has("Connection: close"));
      CHECK(refusal.body == "profagent answers 64 connections at a time. Try again.\n");
    }
  }
  CHECK(soon([&] {
    clients[0]->request("GET", "/debug/pprof/agent?format=text");
    const Reply facts(clients[0]->read_response());
    return facts.body.find("service.connections_open: 64\n") != std::string::npos &&
           facts.body.find("service.connections_over_limit: 20\n") != std::string::npos;
  }));
  clients.pop_back();
  CHECK(soon([&] { return is_alive(server); }));
}

TEST_CASE("of 64 connections those without a request give way to new ones, the others do not [J9]") {
  const TestServer server;
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 64; ++i) clients.push_back(std::make_unique<Client>(server.port()));
  clients[0]->request("GET", "/debug/pprof/heap?seconds=60");
  // After the five seconds that a request may take to come.
  bool is_served = false;
  for (int i = 0; i < 100 && !is_served; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    is_served = is_alive(server);
  }
  CHECK(is_served);
  CHECK(clients[1]->read_all().empty());
  CHECK(FakeProfiles::collections_begun == 1);
  CHECK(FakeProfiles::collections_cancelled == 0);
}

TEST_CASE("when there is no memory for a client, the next one is served") {
  const TestServer server;
  REQUIRE(is_alive(server));
  REQUIRE(soon([&] { return number_fact(server, "connections_open") == 0; }));  // nobody else asks for memory
  out_of_memory = &server.service();
  CHECK(Client(server.port()).read_all().empty());
  CHECK(out_of_memory == nullptr);
  CHECK(is_alive(server));
}

TEST_CASE("a request for which there is no memory costs its own connection and nothing else") {
  const TestServer server;
  // Nearly each exception reaches the loop, which gives up after a hundred that no request has caused.
  constexpr int kTimes = 130;
  const std::int64_t requests = number_fact(server, "requests");
  const std::int64_t restarts = number_fact(server, "restarts");
  for (int i = 1; i <= kTimes; ++i) {
    const Client client(server.port());
    client.request("POST", "/debug/pprof/symbol", "Transfer-Encoding: chunked\r\n");
    REQUIRE(soon([&] { return number_fact(server, "requests") == requests + i; }));
    out_of_memory = &server.service();
    client.send("20\r\n" + std::string(32, '0') + "\r\n");
    // At once, and not when the time for a body is over.
    REQUIRE(client.read_all().empty());
    REQUIRE(soon([&] { return number_fact(server, "connections_open") == 0; }));
  }
  CHECK(number_fact(server, "restarts") > restarts + 101);
  CHECK(is_alive(server));
}

TEST_CASE("bodies share the memory that there is for them [J11]") {
  const TestServer server;
  const std::string header = "Transfer-Encoding: chunked\r\n";
  const std::int64_t requests = number_fact(server, "requests");
  {
    const Client first(server.port());
    const Client second(server.port());
    first.request("POST", "/debug/pprof/symbol", header);
    second.request("POST", "/debug/pprof/symbol", header);
    REQUIRE(soon([&] { return number_fact(server, "requests") == requests + 2; }));
    const Reply refusal = ask(server, "POST", "/debug/pprof/symbol", "", "0x1000");
    CHECK(refusal.status == 503);
    CHECK(refusal.has("Retry-After: 1"));
    CHECK(refusal.body == "other requests' bodies take all the memory that there is for them. Try again.\n");
    CHECK(is_alive(server));
    first.send("6\r\n0x1000\r\n0\r\n\r\n");
    CHECK(soon([&] { return ask(server, "POST", "/debug/pprof/symbol", "", "0x1000").status == 200; }));
  }
  // Those that have left have given it back.
  for (int i = 0; i < 3; ++i) {
    const Client client(server.port());
    const std::int64_t before = number_fact(server, "requests");
    client.request("POST", "/debug/pprof/symbol", header);
    CHECK(soon([&] { return number_fact(server, "requests") == before + 1; }));
  }
  CHECK(soon([&] { return ask(server, "POST", "/debug/pprof/symbol", "", "0x1000").status == 200; }));
}

TEST_CASE("only our own names and pages get answers [J2 J3]") {
  const TestServer server;
  const auto status = [&](const std::string& headers) {
    return Reply(raw(server, "GET /debug/pprof/heap HTTP/1.1\r\n" + headers + "Connection: close\r\n\r\n"))
        .status;
  };
  CHECK(status("") == 400);
  CHECK(status("Host: localhost\r\nHost: localhost\r\n") == 400);
  CHECK(status("Host: LOCALHOST:1234\r\n") == 200);
  CHECK(status("Host: [::1]:6060\r\n") == 200);
  for (const char* host : {"evil.com", "localhost6", "127.0.0.1.", ""}) {
    CAPTURE(host);
    CHECK(status(std::string("Host: ") + host + "\r\n") == 403);
  }
  CHECK(status("Host: localhost:6060\r\nOrigin: http://localhost:6060\r\n") == 200);
  CHECK(status("Host: localhost:6060\r\nOrigin: http://evil.com\r\n") == 403);
  CHECK(status("Host: localhost:6060\r\nOrigin: null\r\n") == 403);
  // An image of a page elsewhere has no Origin.
  for (const char* from : {"cross-site", "same-site"}) {
    CAPTURE(from);
    CHECK(status(std::string("Host: localhost:6060\r\nSec-Fetch-Site: ") + from + "\r\n") == 403);
  }
  for (const char* from : {"same-origin", "none"}) {
    CAPTURE(from);
    CHECK(status(std::string("Host: localhost:6060\r\nSec-Fetch-Site: ") + from + "\r\n") == 200);
  }
  // Who is refused does not keep the connection either.
  const Reply reply(raw(server, "GET / HTTP/1.1\r\nHost: evil.com\r\n\r\n"));
  CHECK(reply.has("Connection: close"));
  CHECK(reply.has("X-Go-Pprof: 1"));
  CHECK(reply.body.find("http://localhost/") != std::string::npos);
  CHECK_FALSE(get(server, "/debug/pprof/heap").has_header("Access-Control-Allow-Origin"));
}

TEST_CASE("another user gets 403 and is told what to do, root and listed users get answers [J1 J6]") {
  if (geteuid() != 0) return;
  const auto ask_as = [](const TestServer& server, uid_t uid) {
    REQUIRE(seteuid(uid) == 0);
    const Client client(server.port());
    REQUIRE(seteuid(0) == 0);
    client.request("GET", "/debug/pprof/heap", "Connection: close\r\n");
    return Reply(client.read_all());
  };
  {
    const TestServer server;
    const Reply reply = ask_as(server, kStranger);
    CHECK(reply.status == 403);
    CHECK(reply.body.find("PROFAGENT_ALLOW_UIDS=65534") != std::string::npos);
    CHECK(ask_as(server, 0).status == 200);
  }
  service::AccessPolicy listed;
  listed.uids = {kStranger};
  {
    const TestServer server(0, listed);
    CHECK(ask_as(server, kStranger).status == 200);
    CHECK(ask_as(server, kStranger - 1).status == 403);
  }
  // The file's mode keeps strangers away from the Unix socket; where a mode does not, the kernel's word does.
  const TestServer server;
  chmod(server.socket_path().c_str(), 0666);
  chmod(server.socket_path().substr(0, server.socket_path().rfind('/')).c_str(), 0755);
  REQUIRE(seteuid(kStranger) == 0);
  const Client client(server.socket_path());
  REQUIRE(seteuid(0) == 0);
  client.request("GET", "/debug/pprof/heap", "Connection: close\r\n");
  CHECK(Reply(client.read_all()).status == 403);
}

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

TEST_CASE(
    "the service has descriptors of its own: none of the program's, and the program none of its [F8 F9 "
    "F10]") {
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  const std::set<std::string> before = links_in("/proc/self/fd");
  const TestServer server;
  const Client client(server.port());
  client.request("GET", "/debug/pprof/heap?seconds=30");
  REQUIRE(soon([] { return FakeProfiles::collections_begun == 1; }));

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
    const Client client(server.port());
    client.request("GET", "/debug/pprof/heap?seconds=3");
    // A connection is not idle, however long it takes.
    CHECK(Reply(client.read_all(std::chrono::seconds(4))).status == 200);
  }
  REQUIRE(soon([&] { return !server.service().is_running(); }));
  CHECK_FALSE(server.listeners().client_is_waiting());
  Client client(server.port());
  CHECK(server.listeners().client_is_waiting());
  REQUIRE(server.start());
  client.request("GET", "/debug/pprof/heap");
  CHECK(Reply(client.read_response()).body == kHeapBytes);
}

TEST_CASE("a forked child can start a service of its own") {
  const TestServer server;
  REQUIRE(is_alive(server));
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
      failed += soon([&] { return !server.service().is_running(); }) ? 0 : 16;
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
