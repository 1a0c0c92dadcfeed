#include "agent/service/listen_unix.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/safe/sys.h"
#include "agent/service/server_errno.h"

namespace profagent::service {

namespace {

namespace sys = safe::sys;
using sys::address_of;

constexpr int kBacklog = 128;
constexpr mode_t kAnyoneElse = 0077;

uid_t own_uid() noexcept {
  return static_cast<uid_t>(sys::call(SYS_geteuid));
}

void complain(const SocketPath& path, std::string_view what, long error, ProblemText* problems) noexcept {
  problems->add("unix://").add(path.view()).add(": ").add(what);
  if (error < 0) problems->add(": ").add(errno_name(-error));
  problems->add("\n");
}

struct Place {
  SocketPath folder;
  const char* file = nullptr;  // inside of the path
};

Place split(const SocketPath& path) noexcept {
  Place place;
  const std::size_t slash = path.view().rfind('/');
  place.folder.add(path.view().substr(0, slash == 0 ? 1 : slash));
  place.file = path.c_str() + slash + 1;
  return place;
}

// Opens the folder and proves that nobody but us and root can put anything at our path.
long open_folder(const Address& address, const Place& place, ProblemText* problems) noexcept {
  if (address.own_folder) {
    const long made = sys::call(SYS_mkdirat, AT_FDCWD, address_of(place.folder.c_str()), 0700);
    if (made < 0 && made != -EEXIST) {
      complain(address.path, "cannot make the folder", made, problems);
      return made;
    }
  }
  // O_NOFOLLOW: somebody may have put a symbolic link there before us.
  const long folder = sys::call(SYS_openat, AT_FDCWD, address_of(place.folder.c_str()),
                                O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (folder < 0) {
    complain(address.path, "cannot open the folder", folder, problems);
    return folder;
  }
  struct stat status = {};
  const long got = sys::call(SYS_fstat, folder, address_of(&status));
  const bool is_private = status.st_uid == own_uid() && (status.st_mode & kAnyoneElse) == 0;
  const bool is_guarded = (status.st_uid == own_uid() || status.st_uid == 0) &&
                          ((status.st_mode & (S_IWGRP | S_IWOTH)) == 0 || (status.st_mode & S_ISVTX) != 0);
  if (got == 0 && (is_private || (!address.own_folder && is_guarded))) return folder;
  complain(address.path,
           address.own_folder ? "the folder is not ours alone (owner, mode 0700)"
                              : "others may write to the folder",
           0, problems);
  sys::call(SYS_close, folder);
  return -EACCES;
}

bool fill(const SocketPath& path, sockaddr_un* name) noexcept {
  *name = {};
  name->sun_family = AF_UNIX;
  std::memcpy(name->sun_path, path.c_str(), path.view().size());
  return true;
}

long new_socket() noexcept {
  return sys::call(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

// Whether it was this very process that began to listen: as the program that has executed this one. A process
// of its last moments, which is to start a helper for lines, may keep the descriptor open a little longer.
bool is_own_past(long probe) noexcept {
  ucred peer = {};
  socklen_t size = sizeof(peer);
  return sys::call(SYS_getsockopt, probe, SOL_SOCKET, SO_PEERCRED, address_of(&peer), address_of(&size)) ==
             0 &&
         peer.pid == sys::getpid();
}

// What is in our way may go if it is a socket of ours that nobody listens on any more.
bool make_way(long folder, const Place& place, const SocketPath& path, ProblemText* problems) noexcept {
  struct stat status = {};
  const long got =
      sys::call(SYS_newfstatat, folder, address_of(place.file), address_of(&status), AT_SYMLINK_NOFOLLOW);
  if (got == -ENOENT) return true;
  if (got < 0 || !S_ISSOCK(status.st_mode) || status.st_uid != own_uid()) {
    complain(path, "something that is not our socket stands there", got, problems);
    return false;
  }
  sockaddr_un name;
  fill(path, &name);
  const long probe = new_socket();
  const long answer = probe < 0 ? probe : sys::call(SYS_connect, probe, address_of(&name), sizeof(name));
  const bool is_free = answer == -ECONNREFUSED || (answer == 0 && is_own_past(probe));
  if (probe >= 0) sys::call(SYS_close, probe);
  if (!is_free) {
    complain(path, "another process listens there", 0, problems);
    return false;
  }
  sys::call(SYS_unlinkat, folder, address_of(place.file), 0);
  return true;
}

// Binding follows the path a second time. The folder was proved ours through its descriptor; this proves that
// the file went into that very folder.
bool landed_in(long folder, const Place& place, const SocketPath& path, struct stat* status) noexcept {
  struct stat by_path = {};
  return sys::call(SYS_newfstatat, folder, address_of(place.file), address_of(status), AT_SYMLINK_NOFOLLOW) ==
             0 &&
         sys::call(SYS_newfstatat, AT_FDCWD, address_of(path.c_str()), address_of(&by_path),
                   AT_SYMLINK_NOFOLLOW) == 0 &&
         S_ISSOCK(status->st_mode) && status->st_uid == own_uid() && (status->st_mode & kAnyoneElse) == 0 &&
         status->st_dev == by_path.st_dev && status->st_ino == by_path.st_ino;
}

}  // namespace

UnixSocket open_unix_socket(const Address& address, ProblemText* problems) noexcept {
  const Place place = split(address.path);
  const long folder = open_folder(address, place, problems);
  if (folder < 0) return {};
  UnixSocket result;
  if (make_way(folder, place, address.path, problems)) {
    sockaddr_un name;
    fill(address.path, &name);
    const long fd = new_socket();
    // The kernel gives the file the socket's own mode, less the umask: it never exists with a wider one.
    long done = fd < 0 ? fd : sys::call(SYS_fchmod, fd, 0600);
    if (done >= 0) done = sys::call(SYS_bind, fd, address_of(&name), sizeof(name));
    struct stat status = {};
    if (done >= 0 && !landed_in(folder, place, address.path, &status)) done = -EPERM;
    if (done >= 0) done = sys::call(SYS_listen, fd, kBacklog);
    if (done >= 0) {
      result = {static_cast<int>(fd), status.st_dev, status.st_ino};
    } else {
      complain(address.path, "cannot listen", done, problems);
      if (fd >= 0) sys::call(SYS_close, fd);
    }
  }
  sys::call(SYS_close, folder);
  return result;
}

void unlink_unix_socket(const SocketPath& path, dev_t device, ino_t inode) noexcept {
  struct stat status = {};
  const long got =
      sys::call(SYS_newfstatat, AT_FDCWD, address_of(path.c_str()), address_of(&status), AT_SYMLINK_NOFOLLOW);
  if (got == 0 && status.st_dev == device && status.st_ino == inode) {
    sys::call(SYS_unlinkat, AT_FDCWD, address_of(path.c_str()), 0);
  }
}

}  // namespace profagent::service
