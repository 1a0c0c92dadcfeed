#include "agent/service/maps.h"

#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <span>

#include <fcntl.h>
#include <sys/sysmacros.h>

#include "agent/safe/sys.h"

namespace profagent::service {

namespace {

namespace sys = profagent::safe::sys;

constexpr std::string_view kDeleted = " (deleted)";
// The longest line: a path of 4,095 bytes, every byte of it a newline that the kernel writes as \012.
constexpr std::size_t kBufferSize = 65536;

// Takes a number and the separator behind it from the front of `text`.
template <typename Number>
bool take(std::string_view& text, Number& value, int base, char separator) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end == text.data() + text.size() || *end != separator) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()) + 1);
  return true;
}

// The kernel escapes the newline, and nothing else, as backslash and three octal digits.
std::string_view unescape(std::string_view path, std::string& scratch) {
  static constexpr std::string_view kNewline = "\\012";
  std::size_t at = path.find(kNewline);
  if (at == std::string_view::npos) return path;
  scratch.assign(path);
  for (at = scratch.find(kNewline); at != std::string::npos; at = scratch.find(kNewline, at + 1)) {
    scratch.replace(at, kNewline.size(), 1, '\n');
  }
  return scratch;
}

long read_some(long descriptor, char* to, std::size_t size) {
  long got = 0;
  do {
    got = sys::call(SYS_read, descriptor, reinterpret_cast<long>(to), static_cast<long>(size));
  } while (got == -EINTR);
  return got;
}

}  // namespace

bool parse_maps_line(std::string_view line, Mapping& mapping, std::string& scratch) {
  static constexpr std::size_t kPermissions = 4;
  mapping = {};
  if (!take(line, mapping.start, 16, '-') || !take(line, mapping.limit, 16, ' ')) return false;
  if (mapping.start >= mapping.limit) return false;
  if (line.size() <= kPermissions || line[kPermissions] != ' ') return false;
  mapping.readable = line[0] == 'r';
  mapping.executable = line[2] == 'x';
  line.remove_prefix(kPermissions + 1);

  unsigned major_number = 0;
  unsigned minor_number = 0;
  if (!take(line, mapping.offset, 16, ' ') || !take(line, major_number, 16, ':') ||
      !take(line, minor_number, 16, ' ')) {
    return false;
  }
  mapping.device = makedev(major_number, minor_number);

  // The inode ends the line of anonymous memory on some kernels, others pad behind it.
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), mapping.inode, 10);
  if (error != std::errc()) return false;
  line.remove_prefix(static_cast<std::size_t>(end - line.data()));
  if (!line.empty() && line.front() != ' ') return false;

  // The path starts in a fixed column, but one that a long inode moves; no path begins with a blank.
  const std::size_t begin = line.find_first_not_of(' ');
  if (begin == std::string_view::npos) return true;
  line.remove_prefix(begin);
  if (line.ends_with(kDeleted)) {
    mapping.deleted = true;
    line.remove_suffix(kDeleted.size());
  }
  mapping.path = unescape(line, scratch);
  return true;
}

void parse_maps(std::string_view text, const MappingVisitor& visit) {
  std::string scratch;
  Mapping mapping;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (parse_maps_line(text.substr(0, end), mapping, scratch)) visit(mapping);
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
}

bool read_maps(const MappingVisitor& visit, const char* path) {
  const long descriptor = sys::call(SYS_openat, AT_FDCWD, reinterpret_cast<long>(path), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return false;
  struct Closer {
    long descriptor;
    ~Closer() { sys::call(SYS_close, descriptor); }
  } const closer{descriptor};

  const auto buffer = std::make_unique<char[]>(kBufferSize);
  std::size_t held = 0;
  bool any = false;
  bool skipping = false;  // inside a line that is longer than the buffer
  for (;;) {
    const long got = read_some(descriptor, buffer.get() + held, kBufferSize - held);
    if (got <= 0) break;
    any = true;
    held += static_cast<std::size_t>(got);

    const void* const last = memrchr(buffer.get(), '\n', held);
    if (last == nullptr) {
      if (held == kBufferSize) {
        held = 0;
        skipping = true;
      }
      continue;
    }
    std::string_view lines(buffer.get(),
                           static_cast<std::size_t>(static_cast<const char*>(last) - buffer.get()) + 1);
    const std::size_t used = lines.size();
    if (skipping) lines.remove_prefix(lines.find('\n') + 1);
    skipping = false;
    parse_maps(lines, visit);
    held -= used;
    std::memmove(buffer.get(), buffer.get() + used, held);
  }
  if (!skipping) parse_maps({buffer.get(), held}, visit);
  return any;
}

}  // namespace profagent::service
