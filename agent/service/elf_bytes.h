// Where the bytes of an ELF image come from: a file, this process' memory, or a buffer.
// A read never faults, never blocks on anything but the disk, and never throws; it returns fewer bytes than
// asked for at the end, at an unreadable page, or after an error. Nothing is ever mapped: a file that shrinks
// while we read it yields a short read, where a mapping would yield SIGBUS.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace profagent::service {

class Bytes {
 public:
  Bytes() = default;
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;
  virtual ~Bytes() = default;

  virtual std::size_t read(std::uint64_t offset, std::span<std::byte> to) const noexcept = 0;

  // A whole T or nothing.
  template <typename T>
  [[nodiscard]] std::optional<T> get(std::uint64_t offset) const noexcept {
    T value;
    if (read(offset, std::as_writable_bytes(std::span(&value, 1))) != sizeof(T)) return std::nullopt;
    return value;
  }

  // The zero-terminated string at `offset`, cut at `limit` bytes.
  [[nodiscard]] std::string text(std::uint64_t offset, std::size_t limit) const;
};

struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::int64_t modified_nanos = 0;
  std::uint64_t size = 0;
  std::uint64_t owner = 0;

  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

enum class Links : bool { kRefuse, kFollow };

// A regular file, opened close-on-exec by direct system calls: our own hooks on open and read do not see it.
class FileBytes final : public Bytes {
 public:
  // Null when it cannot be opened or is no regular file.
  static std::unique_ptr<FileBytes> open(const char* path, Links links);
  // What stat says of a regular file.
  static std::optional<FileIdentity> identify(const char* path);
  ~FileBytes() override;

  std::size_t read(std::uint64_t offset, std::span<std::byte> to) const noexcept override;
  [[nodiscard]] const FileIdentity& identity() const noexcept { return identity_; }
  // As it was opened by.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  // For handing it on; closed with this.
  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }

 private:
  explicit FileBytes(const char* path) : path_(path) {}

  int descriptor_ = -1;
  std::string path_;
  FileIdentity identity_;
};

// This process' memory; offset 0 is `base`.
class MemoryBytes final : public Bytes {
 public:
  explicit MemoryBytes(std::uintptr_t base) noexcept : base_(base) {}
  std::size_t read(std::uint64_t offset, std::span<std::byte> to) const noexcept override;

 private:
  std::uintptr_t base_;
};

class BufferBytes final : public Bytes {
 public:
  explicit BufferBytes(std::vector<std::byte> bytes) noexcept : bytes_(std::move(bytes)) {}
  std::size_t read(std::uint64_t offset, std::span<std::byte> to) const noexcept override;

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace profagent::service
