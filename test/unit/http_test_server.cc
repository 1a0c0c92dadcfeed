#include "test/unit/http_test_server.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <stdexcept>

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace profagent::test {

std::atomic<int> FakeProfiles::collections_begun{0};
std::atomic<int> FakeProfiles::collections_finished{0};
std::atomic<int> FakeProfiles::collections_cancelled{0};
std::atomic<int> FakeProfiles::finished_seconds{0};
std::atomic<int> FakeProfiles::begun_at_first_finish{0};
std::atomic<int> FakeProfiles::times_tended{0};

const std::string kHeapBytes("\x1f\x8b\x08\0heap snapshot", 17);

std::atomic<bool> FakeProfiles::may_retire{true};
void FakeProfiles::reset() {
  collections_begun = 0;
  collections_finished = 0;
  collections_cancelled = 0;
  finished_seconds = 0;
  begun_at_first_finish = 0;
  times_tended = 0;
}

namespace {

using service::Collection;
using service::ProfileKind;
using service::Query;
using service::Site;
using service::Timing;

// Immortal, as in the agent: the thread may outlive a test that fails.
service::Service the_service;
service::Listeners the_listeners;
service::AccessPolicy the_access;

class FakeCollection : public Collection {
 public:
  explicit FakeCollection(double seconds) : seconds_(seconds) { ++FakeProfiles::collections_begun; }
  ~FakeCollection() override {
    if (!finished_) ++FakeProfiles::collections_cancelled;
  }
  std::string finish() override {
    finished_ = true;
    if (++FakeProfiles::collections_finished == 1)
      FakeProfiles::begun_at_first_finish = FakeProfiles::collections_begun.load();
    FakeProfiles::finished_seconds = FakeProfiles::finished_seconds * 10 + static_cast<int>(seconds_);
    if (seconds_ == 2) throw std::runtime_error("failed to compute delta");
    return "\x1f\x8b\x08 delta";
  }

 private:
  double seconds_;
  bool finished_ = false;
};

class FakeSource : public service::ProfileSource {
 public:
  explicit FakeSource(ProfileKind kind) : kind_(kind) {}
  const ProfileKind& kind() const override { return kind_; }
  std::uint64_t count() override { return 42; }
  std::string state() override {
    return kind_.name == "allocs" ? "Off: the program <defines> malloc itself." : "";
  }
  std::string snapshot(const Query& query) override {
    if (kind_.name == "broken") throw std::runtime_error("failed to collect profile");
    if (!query.get("gc").empty()) return kHeapBytes + "gc";
    return kHeapBytes;
  }
  std::string text(std::int64_t debug, const Query&) override {
    return std::string(kind_.name) + " text " + std::to_string(debug) + "\n";
  }
  std::unique_ptr<Collection> begin(double seconds, const Query&) override {
    return std::make_unique<FakeCollection>(seconds);
  }

 private:
  ProfileKind kind_;
};

// False when nothing has come for so long. A signal, as libFuzzer sends itself, does not count.
bool wait_for(pollfd* polled, int milliseconds) {
  int count = 0;
  do count = poll(polled, 1, milliseconds);
  while (count < 0 && errno == EINTR);
  return count > 0;
}

int connect_to(const sockaddr* name, socklen_t length) {
  const int fd = socket(name->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, name, length) != 0) throw std::runtime_error("cannot connect");
  return fd;
}

}  // namespace

service::Site make_fake_site() {
  static constexpr std::string_view kAliases[] = {"/debug/fakeprof"};
  Site site;
  for (const ProfileKind& kind : {
           ProfileKind{"heap", "Live memory.", Timing::kNowOrDelta},
           ProfileKind{"allocs", "All memory ever asked for.", Timing::kNowOrDelta},
           ProfileKind{"custom", "Cannot be subtracted.", Timing::kNow},
           ProfileKind{"broken", "Throws.", Timing::kNowOrDelta},
           ProfileKind{"quick", "Over time.", Timing::kOverTime, 0.25, true, kAliases},
       }) {
    site.profiles.push_back(std::make_unique<FakeSource>(kind));
  }
  site.cmdline = std::string("prog\0\0a b\0\xc3\xa9", 13);
  site.symbol_names = [](std::span<const std::uintptr_t> addresses) {
    std::vector<std::string> names;
    for (const std::uintptr_t address : addresses) {
      if (address >= 0x1000 && address < 0x2000) {
        names.emplace_back("_Z3foov");
      } else if (address >= 0x2000 && address < 0x10000000) {
        names.emplace_back("name with space");
      } else {
        names.emplace_back();
      }
    }
    return names;
  };
  site.settings = [] {
    return std::vector<service::SettingView>{
        {"mem_profile_rate", "PROFAGENT_MEM_PROFILE_RATE", std::int64_t{1}, std::int64_t{524288}, 0,
         std::nullopt, "environment", "", "Mean bytes."},
        {"log", "PROFAGENT_LOG", std::string("\xff"), std::string("silent"), std::nullopt, std::nullopt,
         "default", "", "Log level."}};
  };
  site.facts = [] { return the_service.facts(); };
  site.access = the_access;
  site.tend = [] {
    constexpr int kTimes = 10;
    return ++FakeProfiles::times_tended < kTimes ? 0.01 : 0.0;
  };
  return site;
}

TestServer::TestServer(unsigned idle_seconds, service::AccessPolicy access) : idle_seconds_(idle_seconds) {
  char folder[] = "/tmp/profagent-test-XXXXXX";
  folder_ = mkdtemp(folder);
  the_access = std::move(access);
  FakeProfiles::reset();
  service::AddressFacts facts;
  facts.pid = getpid();
  service::AddressList addresses;
  service::ProblemText problems;
  const std::string text = "127.0.0.1:0,unix://" + socket_path();
  parse_addresses(text, facts, &addresses, &problems);
  the_listeners.open(addresses, getpid());
  if (!problems.empty() || !the_listeners.problems().empty()) throw std::runtime_error("cannot listen");
  if (!start()) throw std::runtime_error("cannot start");
}

TestServer::~TestServer() {
  // A server that cannot be stopped must not look like one that can.
  if (!the_service.stop_and_join()) std::abort();
  the_listeners.unlink_files();
  the_listeners.close_all();
  rmdir(folder_.c_str());
}

bool TestServer::start() const {
  service::ServiceOptions options;
  options.listeners = &the_listeners;
  options.create_thread = &pthread_create;
  options.make_site = &make_fake_site;
  options.idle_seconds = idle_seconds_;
  options.may_retire = []() noexcept { return FakeProfiles::may_retire.load(); };
  return the_service.start(options);
}

std::uint16_t TestServer::port() const {
  return the_listeners.all()[0].address.port;
}
service::Service& TestServer::service() const {
  return the_service;
}
service::Listeners& TestServer::listeners() const {
  return the_listeners;
}

Client::Client(std::uint16_t port) {
  sockaddr_in name = {};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  fd_ = connect_to(reinterpret_cast<const sockaddr*>(&name), sizeof(name));
}

Client::Client(const std::string& socket_path) {
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, socket_path.c_str(), socket_path.size());
  fd_ = connect_to(reinterpret_cast<const sockaddr*>(&name), sizeof(name));
}

Client::~Client() {
  close(fd_);
}

bool Client::send(std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

bool Client::request(std::string_view method, std::string_view target, std::string_view more_headers,
                     std::string_view body) const {
  std::string text = std::string(method) + " " + std::string(target) + " HTTP/1.1\r\nHost: localhost\r\n";
  text += more_headers;
  if (!body.empty()) text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  text += "\r\n";
  text += body;
  return send(text);
}

std::string Client::read_all(std::chrono::milliseconds patience) const {
  std::string text;
  char buffer[65536];
  for (;;) {
    pollfd polled = {fd_, POLLIN, 0};
    if (!wait_for(&polled, static_cast<int>(patience.count()))) return text + "<silence>";
    const ssize_t got = recv(fd_, buffer, sizeof(buffer), 0);
    if (got < 0) return text + "<reset>";
    if (got == 0) return text;
    text.append(buffer, static_cast<std::size_t>(got));
  }
}

std::string Client::read_response(bool has_body) {
  char buffer[65536];
  for (;;) {
    const std::size_t end = ahead_.find("\r\n\r\n");
    if (end != std::string::npos) {
      std::size_t length = 0;
      const std::size_t field = ahead_.find("Content-Length: ");
      if (has_body && field < end) length = std::strtoul(ahead_.c_str() + field + 16, nullptr, 10);
      if (ahead_.size() >= end + 4 + length) {
        std::string response = ahead_.substr(0, end + 4 + length);
        ahead_.erase(0, end + 4 + length);
        return response;
      }
    }
    pollfd polled = {fd_, POLLIN, 0};
    if (!wait_for(&polled, 10000)) return "";
    const ssize_t got = recv(fd_, buffer, sizeof(buffer), 0);
    if (got <= 0) return "";
    ahead_.append(buffer, static_cast<std::size_t>(got));
  }
}

void Client::finish_sending() const {
  shutdown(fd_, SHUT_WR);
}

Reply::Reply(std::string text) {
  const std::size_t end = text.find("\r\n\r\n");
  if (end == std::string::npos) {
    body = std::move(text);
    return;
  }
  head = text.substr(0, end + 2);
  body = text.substr(end + 4);
  if (head.size() > 12) status = std::atoi(head.c_str() + 9);
}

bool Reply::has(std::string_view header_line) const {
  return head.find("\r\n" + std::string(header_line) + "\r\n") != std::string::npos;
}

bool Reply::has_header(std::string_view name) const {
  return head.find("\r\n" + std::string(name) + ":") != std::string::npos;
}

Reply ask(const TestServer& server, std::string_view method, std::string_view target,
          std::string_view more_headers, std::string_view body) {
  const Client client(server.port());
  client.request(method, target, std::string(more_headers) + "Connection: close\r\n", body);
  return Reply(client.read_all());
}

Reply get(const TestServer& server, std::string_view target, std::string_view more_headers) {
  return ask(server, "GET", target, more_headers);
}

bool is_alive(const TestServer& server) {
  return get(server, "/debug/pprof/heap").body == kHeapBytes;
}

std::string raw(const TestServer& server, std::string_view bytes) {
  const Client client(server.port());
  client.send(bytes);
  return client.read_all();
}

std::int64_t number_fact(const TestServer& server, std::string_view name) {
  for (const service::Fact& fact : server.service().facts()) {
    if (fact.name == name) return std::get<std::int64_t>(fact.value);
  }
  return -1;
}

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

}  // namespace profagent::test
