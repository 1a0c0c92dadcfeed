#include "agent/service/access_token.h"

#include <algorithm>
#include <string_view>

#include <fcntl.h>
#include <sys/stat.h>

#include "agent/safe/sys.h"
#include "agent/service/server_errno.h"

namespace profagent::service {

namespace {

namespace sys = safe::sys;
using sys::address_of;

constexpr mode_t kAnyoneElse = 0077;

// Why the file is no place for a secret; null when it is one.
const char* fault_of(const struct stat& status) noexcept {
  const auto own_uid = static_cast<uid_t>(sys::call(SYS_geteuid));
  if (!S_ISREG(status.st_mode)) return "is not a regular file";
  if (status.st_uid != own_uid && status.st_uid != 0) return "belongs to another user";
  if ((status.st_mode & kAnyoneElse) != 0) return "has rights for others: its mode must be 0600";
  return nullptr;
}

const char* fault_of(std::string_view token) noexcept {
  if (token.size() < kShortestToken) return "has a token of less than 16 characters";
  const bool is_plain = std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < 0x7f; });
  return is_plain ? nullptr : "has characters in its token that no header can carry";
}

// Takes the file's text without the end of its line. What is wrong with it; null when nothing is.
const char* read_line(long file, Token* token) noexcept {
  char text[1024];
  const long got = sys::call(SYS_read, file, address_of(text), sizeof(text));
  if (got < 0) return "cannot be read";
  std::string_view line(text, static_cast<std::size_t>(got));
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.remove_suffix(1);
  token->add(line);
  return token->was_cut() ? "has a token of more than 511 characters" : fault_of(line);
}

}  // namespace

bool read_token(const char* path, Token* token, ProblemText* problem) noexcept {
  token->clear();
  if (*path == '\0') {
    problem->add("is not set");
    return false;
  }
  problem->add(path).add(" ");
  const long file = sys::call(SYS_openat, AT_FDCWD, address_of(path),
                              O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  if (file < 0) {
    problem->add("cannot be opened: ").add(errno_name(-file));
    return false;
  }
  struct stat status = {};
  const char* fault =
      sys::call(SYS_fstat, file, address_of(&status)) < 0 ? "cannot be looked at" : fault_of(status);
  if (fault == nullptr) fault = read_line(file, token);
  sys::call(SYS_close, file);
  if (fault == nullptr) {
    problem->clear();
    return true;
  }
  token->clear();
  problem->add(fault);
  return false;
}

}  // namespace profagent::service
