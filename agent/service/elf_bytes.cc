#include "agent/service/elf_bytes.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include <fcntl.h>
#include <sys/stat.h>

#include "agent/safe/clock.h"
#include "agent/safe/sys.h"

namespace profagent::service {

namespace sys = profagent::safe::sys;

namespace {

FileIdentity identity_of(const struct stat& status) {
  return {.device = status.st_dev,
          .inode = status.st_ino,
          .modified_nanos = safe::to_nanos(status.st_mtim),
          .size = static_cast<std::uint64_t>(status.st_size),
          .owner = status.st_uid};
}

}  // namespace

std::string Bytes::text(std::uint64_t offset, std::size_t limit) const {
  std::string result;
  std::array<char, 256> piece;
  while (result.size() < limit) {
    const std::size_t want = std::min(piece.size(), limit - result.size());
    const std::size_t got =
        read(offset + result.size(), std::as_writable_bytes(std::span(piece.data(), want)));
    const std::size_t length =
        static_cast<std::size_t>(std::find(piece.data(), piece.data() + got, '\0') - piece.data());
    result.append(piece.data(), length);
    if (length != got || got < want) break;
  }
  return result;
}

std::unique_ptr<FileBytes> FileBytes::open(const char* path, Links links) {
  // O_NONBLOCK: opening a pipe that has taken the file's place must not wait for a writer.
  int flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  if (links == Links::kRefuse) flags |= O_NOFOLLOW;
  // What may throw comes before there is something to close.
  std::unique_ptr<FileBytes> file(new FileBytes(path));
  file->descriptor_ = static_cast<int>(sys::call(SYS_openat, AT_FDCWD, reinterpret_cast<long>(path), flags));
  if (file->descriptor_ < 0) return nullptr;

  struct stat status {};
  if (sys::call(SYS_fstat, file->descriptor_, reinterpret_cast<long>(&status)) != 0 ||
      !S_ISREG(status.st_mode))
    return nullptr;
  file->identity_ = identity_of(status);
  return file;
}

std::optional<FileIdentity> FileBytes::identify(const char* path) {
  struct stat status {};
  const long result =
      sys::call(SYS_newfstatat, AT_FDCWD, reinterpret_cast<long>(path), reinterpret_cast<long>(&status), 0);
  if (result != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  return identity_of(status);
}

FileBytes::~FileBytes() {
  if (descriptor_ >= 0) sys::call(SYS_close, descriptor_);
}

std::size_t FileBytes::read(std::uint64_t offset, std::span<std::byte> to) const noexcept {
  std::size_t done = 0;
  while (done < to.size()) {
    const long got = sys::call(SYS_pread64, descriptor_, reinterpret_cast<long>(to.data() + done),
                               static_cast<long>(to.size() - done), static_cast<long>(offset + done));
    if (got == -EINTR) continue;
    if (got <= 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

std::size_t MemoryBytes::read(std::uint64_t offset, std::span<std::byte> to) const noexcept {
  return sys::read_memory(base_ + offset, to.data(), to.size());
}

std::size_t BufferBytes::read(std::uint64_t offset, std::span<std::byte> to) const noexcept {
  if (offset >= bytes_.size()) return 0;
  const std::size_t size = std::min<std::uint64_t>(to.size(), bytes_.size() - offset);
  std::memcpy(to.data(), bytes_.data() + offset, size);
  return size;
}

}  // namespace profagent::service
