#include "agent/service/access_token.h"

#include <cstdlib>
#include <string>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <catch2/catch.hpp>

namespace profagent::service {

namespace {

constexpr char kGood[] = "0123456789abcdef";

// A file in a folder of its own, which goes with it.
class TokenFile {
 public:
  explicit TokenFile(const std::string& text, mode_t mode = 0600) {
    REQUIRE(mkdtemp(folder_.data()) != nullptr);
    path_ = folder_ + "/token";
    const int fd = open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    REQUIRE(write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    fchmod(fd, mode);
    close(fd);
  }
  TokenFile(const TokenFile&) = delete;
  TokenFile& operator=(const TokenFile&) = delete;
  ~TokenFile() {
    for (const std::string& path : {path_, folder_ + "/other"}) unlink(path.c_str());
    rmdir(path_.c_str());
    rmdir(folder_.c_str());
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string other() const { return folder_ + "/other"; }

 private:
  std::string folder_ = "/tmp/profagent-test-XXXXXX";
  std::string path_;
};

struct Result {
  bool good;
  std::string token;
  std::string problem;
};

Result read(const std::string& path) {
  Token token;
  ProblemText problem;
  const bool good = read_token(path.c_str(), &token, &problem);
  return {good, std::string(token.view()), std::string(problem.view())};
}

// Nothing of a token that cannot be used is kept, and the reason names the file.
void check_refused(const std::string& path, const std::string& reason) {
  const Result result = read(path);
  CAPTURE(path, result.problem);
  CHECK_FALSE(result.good);
  CHECK(result.token.empty());
  CHECK(result.problem.find(path + " ") == 0);
  CHECK(result.problem.find(reason) != std::string::npos);
}

}  // namespace

TEST_CASE("a token is one line of a file that is for us alone [J1]") {
  for (const std::string end : {"", "\n", "\r\n"}) {
    const TokenFile file(kGood + end);
    const Result result = read(file.path());
    CHECK(result.good);
    CHECK(result.token == kGood);
    CHECK(result.problem.empty());
  }
  const TokenFile read_only(kGood, 0400);
  CHECK(read(read_only.path()).good);
  const TokenFile longest(std::string(511, 'x'));
  CHECK(read(longest.path()).token.size() == 511);
}

TEST_CASE("what others may read or write is no token [J1]") {
  for (const mode_t mode : {0640, 0604, 0620, 0602, 0610, 0601, 0644, 0666, 0777}) {
    CAPTURE(mode);
    const TokenFile file(kGood, mode);
    check_refused(file.path(), "mode must be 0600");
  }
}

TEST_CASE("a file of somebody else is no token [J1]") {
  if (geteuid() != 0) return;
  const TokenFile file(kGood);
  REQUIRE(chown(file.path().c_str(), 65534, 65534) == 0);
  check_refused(file.path(), "belongs to another user");
}

TEST_CASE("only a regular file at the path itself will do [J1 J7]") {
  const TokenFile file(kGood);
  REQUIRE(symlink(file.path().c_str(), file.other().c_str()) == 0);
  check_refused(file.other(), "cannot be opened: ELOOP");
  unlink(file.other().c_str());
  check_refused(file.other(), "cannot be opened: ENOENT");
  // Nobody may make us wait for the other end.
  REQUIRE(mkfifo(file.other().c_str(), 0600) == 0);
  check_refused(file.other(), "is not a regular file");
  unlink(file.path().c_str());
  REQUIRE(mkdir(file.path().c_str(), 0700) == 0);
  check_refused(file.path(), "is not a regular file");
  const Result none = read("");
  CHECK_FALSE(none.good);
  CHECK(none.problem == "is not set");
}

TEST_CASE("a token that can be guessed, or that no header carries, is none [J1]") {
  const TokenFile empty("\n");
  check_refused(empty.path(), "less than 16");
  const TokenFile shorter("0123456789abcde");
  check_refused(shorter.path(), "less than 16");
  const TokenFile longer(std::string(512, 'x'));
  check_refused(longer.path(), "more than 511");
  for (const std::string inner : {" ", "\n", "\t", "\x7f", "\xc3\xa9"}) {
    CAPTURE(inner);
    const TokenFile file("0123456789" + inner + "abcdef");
    check_refused(file.path(), "no header can carry");
  }
}

}  // namespace profagent::service
