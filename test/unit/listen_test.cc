#include "agent/service/listen.h"

#include <catch2/catch.hpp>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

namespace profagent::service {

namespace {

class Folder {
 public:
  Folder() {
    char name[] = "/tmp/profagent-test-XXXXXX";
    path_ = mkdtemp(name);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    const std::string command = "rm -rf " + path_;
    static_cast<void>(std::system(command.c_str()));  // NOLINT(concurrency-mt-unsafe)
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Closed and unlinked at the end of a test.
struct Opened {
  Listeners listeners;
  explicit Opened(std::string_view text, bool own_folder = false) {
    AddressList list;
    ProblemText problems;
    parse_addresses(text, {}, &list, &problems);
    for (Address& address : list.items) address.own_folder = own_folder;
    listeners.open(list, getpid());
  }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  ~Opened() {
    listeners.unlink_files();
    listeners.close_all();
  }
  [[nodiscard]] std::string problems() const { return std::string(listeners.problems()); }
};

bool exists(const std::string& path) {
  struct stat status = {};
  return lstat(path.c_str(), &status) == 0;
}

bool can_connect(const std::string& path) {
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, path.c_str(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool connected = connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof(name)) == 0;
  close(fd);
  return connected;
}

int connect_to_port(std::uint16_t port) {
  sockaddr_in name = {};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof(name)) == 0) return fd;
  close(fd);
  return -1;
}

int lowest_free_fd() {
  const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  close(fd);
  return fd;
}

template <typename Body>
int in_child(Body body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

}  // namespace

TEST_CASE("listeners are high, close-on-exec, and leave the low numbers alone") {
  const int before = lowest_free_fd();
  const Folder folder;
  const Opened opened(":0,[::1]:0,unix://" + folder.path() + "/s");
  REQUIRE(opened.problems().empty());
  REQUIRE(opened.listeners.all().size() == 4);
  CHECK(opened.listeners.any());
  for (const Listener& listener : opened.listeners.all()) {
    CHECK(listener.fd >= 1000);
    CHECK((fcntl(listener.fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK((fcntl(listener.fd, F_GETFL) & O_NONBLOCK) != 0);
    CHECK(Listeners::is_ours(listener));
  }
  CHECK(lowest_free_fd() == before);
  CHECK(opened.listeners.all()[0].address.port != 0);
}

TEST_CASE("with a low limit they take the highest numbers that there are") {
  CHECK(in_child([] {
          const rlimit limit{64, 64};
          setrlimit(RLIMIT_NOFILE, &limit);
          const Opened opened(":0");
          for (const Listener& listener : opened.listeners.all()) {
            if (listener.fd < 50) return 1;
          }
          return opened.listeners.all().size() == 2 ? 0 : 2;
        }) == 0);
}

TEST_CASE("without a free descriptor there is a problem and no listener") {
  CHECK(in_child([] {
          const rlimit limit{3, 3};
          setrlimit(RLIMIT_NOFILE, &limit);
          const Opened opened(":0,unix:///tmp/x.sock");
          return !opened.listeners.any() && opened.problems().find("EMFILE") != std::string::npos ? 0 : 1;
        }) == 0);
}

TEST_CASE("a taken port of the default range gives way to the next, a chosen one is a problem") {
  const Opened first(":0");
  Address address = first.listeners.all()[0].address;
  AddressList list;
  list.count = 1;
  list.items[0] = address;
  list.items[0].last_port = static_cast<std::uint16_t>(address.port + 20);
  Listeners second;
  second.open(list, getpid());
  REQUIRE(second.any());
  CHECK(second.all()[0].address.port > address.port);
  CHECK(second.problems().empty());
  second.close_all();

  const Opened third("127.0.0.1:" + std::to_string(address.port));
  CHECK_FALSE(third.listeners.any());
  CHECK(third.problems().find("EADDRINUSE") != std::string::npos);
}

TEST_CASE("a descriptor that the program closed and took for itself is not ours any more") {
  Opened opened(":0");
  const Listener listener = opened.listeners.all()[0];
  const int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
  REQUIRE(dup2(file, listener.fd) == listener.fd);
  close(file);
  CHECK_FALSE(Listeners::is_ours(listener));
  CHECK_FALSE(opened.listeners.client_is_waiting());
  opened.listeners.close_all();
  CHECK(fcntl(listener.fd, F_GETFD) != -1);
  close(listener.fd);
  CHECK_FALSE(Listeners::is_ours(listener));
}

TEST_CASE("a waiting client is seen, and announced by a signal that does no harm") {
  const Opened opened(":0");
  CHECK_FALSE(opened.listeners.client_is_waiting());
  sigset_t urgent;
  sigset_t before;
  sigemptyset(&urgent);
  sigaddset(&urgent, SIGURG);
  sigprocmask(SIG_BLOCK, &urgent, &before);
  opened.listeners.notify_by_signal(SIGURG);
  const int client = connect_to_port(opened.listeners.all()[0].address.port);
  REQUIRE(client >= 0);
  CHECK(opened.listeners.client_is_waiting());
  const timespec patience{5, 0};
  siginfo_t info = {};
  CHECK(sigtimedwait(&urgent, &info, &patience) == SIGURG);
  CHECK((fcntl(opened.listeners.all()[0].fd, F_GETFL) & O_NONBLOCK) != 0);
  sigprocmask(SIG_SETMASK, &before, nullptr);
  close(client);
}

TEST_CASE("wake() makes the wake-up socket readable, from nobody else") {
  const Opened opened(":0");
  const Listener wake_up = opened.listeners.all().back();
  REQUIRE(wake_up.is_wake_up);
  pollfd polled = {wake_up.fd, POLLIN, 0};
  CHECK(poll(&polled, 1, 0) == 0);
  sockaddr_un name = {};
  socklen_t length = sizeof(name);
  REQUIRE(getsockname(wake_up.fd, reinterpret_cast<sockaddr*>(&name), &length) == 0);
  const int stranger = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  CHECK(sendto(stranger, "x", 1, MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&name), length) == -1);
  close(stranger);
  CHECK(opened.listeners.wake());
  CHECK(poll(&polled, 1, 0) == 1);
  for (int i = 0; i < 1000; ++i) CHECK(opened.listeners.wake());
}

TEST_CASE("the socket's file is for us alone whatever the umask, and goes at exit [H22 J6]") {
  const Folder folder;
  const std::string path = folder.path() + "/made/p.sock";
  const mode_t before = umask(0);
  {
    const Opened opened("unix://" + path, true);
    umask(before);
    REQUIRE(opened.problems().empty());
    struct stat status = {};
    REQUIRE(lstat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0600);
    REQUIRE(lstat((folder.path() + "/made").c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0700);
    CHECK(can_connect(path));
    // A child has a copy and is not the owner.
    CHECK(in_child([&] {
            auto& listeners = const_cast<Listeners&>(opened.listeners);
            listeners.unlink_files();
            listeners.close_all();
            return exists(path) ? 0 : 1;
          }) == 0);
    CHECK(can_connect(path));
  }
  CHECK_FALSE(exists(path));
}

TEST_CASE("the file of a dead process is replaced, that of a living one is not [H22]") {
  const Folder folder;
  const std::string path = folder.path() + "/p.sock";
  REQUIRE(in_child([&] {
            AddressList list;
            ProblemText problems;
            parse_addresses("unix://" + path, {}, &list, &problems);
            Listeners listeners;
            listeners.open(list, getpid());
            return listeners.any() ? 0 : 1;
          }) == 0);
  REQUIRE(exists(path));
  const Opened second("unix://" + path);
  CHECK(second.problems().empty());
  CHECK(can_connect(path));
  CHECK(in_child([&] {
          const Opened third("unix://" + path);
          return third.problems().find("another process listens there") != std::string::npos ? 0 : 1;
        }) == 0);
  CHECK(can_connect(path));
  const Opened both("unix://" + path + "2,unix://" + path + "2");
  CHECK(both.problems().find("is listed twice") != std::string::npos);
  CHECK(can_connect(path + "2"));
}

// A process that has begun before an execution may have kept the listener open.
TEST_CASE("what this process has listened on itself, as another program, is replaced [H22][D8]") {
  const Folder folder;
  const std::string path = folder.path() + "/p.sock";
  const Opened before("unix://" + path);
  const Opened now("unix://" + path);
  CHECK(now.problems().empty());
  CHECK(can_connect(path));
}

TEST_CASE("whatever else stands at the path is left alone [J7]") {
  const Folder folder;
  const std::string path = folder.path() + "/p.sock";
  const auto refused = [&](const char* reason) {
    const Opened opened("unix://" + path);
    return !opened.listeners.any() && opened.problems().find(reason) != std::string::npos && exists(path);
  };
  const char* kNotOurs = "something that is not our socket";
  close(open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  CHECK(refused(kNotOurs));
  unlink(path.c_str());
  REQUIRE(symlink("/tmp/elsewhere.sock", path.c_str()) == 0);
  CHECK(refused(kNotOurs));
  CHECK_FALSE(exists("/tmp/elsewhere.sock"));
  unlink(path.c_str());
  REQUIRE(mkfifo(path.c_str(), 0600) == 0);
  CHECK(refused(kNotOurs));
  unlink(path.c_str());
  REQUIRE(mkdir(path.c_str(), 0700) == 0);
  CHECK(refused(kNotOurs));
}

TEST_CASE("a folder that others could have prepared is not used [J7]") {
  const Folder folder;
  const std::string inner = folder.path() + "/inner";
  const std::string address = "unix://" + inner + "/p.sock";
  const auto refused = [&](bool own_folder, const char* reason) {
    const Opened opened(address, own_folder);
    CAPTURE(opened.problems());
    CHECK(opened.problems().find(reason) != std::string::npos);
    return !opened.listeners.any();
  };
  CHECK(refused(false, "ENOENT"));
  REQUIRE(symlink("/tmp", inner.c_str()) == 0);
  CHECK(refused(true, "cannot open the folder"));
  unlink(inner.c_str());
  close(open(inner.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  CHECK(refused(true, "ENOTDIR"));
  unlink(inner.c_str());
  REQUIRE(mkdir(inner.c_str(), 0700) == 0);
  REQUIRE(chmod(inner.c_str(), 0750) == 0);
  CHECK(refused(true, "not ours alone"));
  REQUIRE(chmod(inner.c_str(), 0777) == 0);
  CHECK(refused(false, "others may write"));
  REQUIRE(chmod(inner.c_str(), 01777) == 0);
  CHECK(refused(true, "not ours alone"));
  {
    const Opened sticky(address);
    CHECK(sticky.listeners.any());
  }
  if (geteuid() == 0) {
    REQUIRE(chmod(inner.c_str(), 0700) == 0);
    REQUIRE(chown(inner.c_str(), 65534, 65534) == 0);
    CHECK(refused(true, "not ours alone"));
    CHECK(refused(false, "others may write"));
  }
}

}  // namespace profagent::service
