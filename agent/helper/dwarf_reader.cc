#include "agent/helper/dwarf_reader.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <span>
#include <utility>

#include <backtrace.h>
#include <fcntl.h>
#include <link.h>
#include <unistd.h>

#include "agent/helper/disjoint_ranges.h"
#include "agent/helper/line_folders.h"
#include "agent/helper/sort_runs.h"

namespace profagent::helper {

namespace {

// The file that libbacktrace is to open by this path; others it opens itself.
struct Given {
  const char* path = nullptr;
  int descriptor = -1;
};
Given given;

// What is damaged has no lines. Where only memory or descriptors are lacking, the next helper may find them.
void on_error(void* /*data*/, const char* /*message*/, int error) {
  if (error == ENOMEM || error == EMFILE || error == ENFILE) _exit(1);
}

// For what libbacktrace calls: it is C, and no exception gets past it.
template <typename Body>
auto or_end(Body body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    _exit(1);
  }
}

int add_frame(void* data, std::uintptr_t /*pc*/, const char* file, int line, const char* function) {
  auto& chain = *static_cast<service::line_wire::Chain*>(data);
  if (file == nullptr && function == nullptr) return 0;
  return or_end([&] {
    chain.push_back({.function = function == nullptr ? std::string_view() : function,
                     .file = file == nullptr ? std::string_view() : file,
                     .line = line > 0 ? static_cast<std::uint32_t>(line) : 0});
    return chain.size() == service::line_wire::kMaxDepth ? 1 : 0;
  });
}

}  // namespace

// What libbacktrace calls in the place of two functions of libc (agent/helper/meson.build). It asks for the
// objects of its own process, and shall see one, which is not loaded: link-time addresses.
extern "C" int profagent_only_object(int (*see)(dl_phdr_info*, std::size_t, void*), void* data) {
  dl_phdr_info object = {};
  object.dlpi_name = "";
  return see(&object, sizeof(object), data);
}

extern "C" int profagent_open_given(const char* path, int flags, ...) {
  if (given.path != nullptr && std::strcmp(path, given.path) == 0)
    return fcntl(given.descriptor, F_DUPFD_CLOEXEC, 0);
  // A pipe in the place of a file must not make us wait.
  flags |= O_NONBLOCK | O_NOCTTY;
  const int file = open(path, flags);
  // It looks for all names from a folder, also for those that are absolute (dwz).
  const char* const absolute = std::strstr(path, "//");
  return file < 0 && absolute != nullptr ? open(absolute + 1, flags) : file;
}

namespace {

// libbacktrace's internal.h: the sections of a file, unpacked.
enum DwarfSection : std::size_t {
  kInfo,
  kLine,
  kAbbreviations,
  kRanges,
  kTexts,
  kAddresses,
  kTextOffsets,
  kLineTexts,
  kRangeLists,
  kSections
};
struct DwarfSections {
  const unsigned char* data[kSections];
  std::size_t size[kSections];
};

}  // namespace

extern "C" {

using Compare = int (*)(const void*, const void*);
void __real_backtrace_qsort(  // NOLINT(bugprone-reserved-identifier)
    void* entries, std::size_t count, std::size_t size, Compare compare);

void __wrap_backtrace_qsort(  // NOLINT(bugprone-reserved-identifier)
    void* entries, std::size_t count, std::size_t size, Compare compare) {
  // Units, functions and lines have three words; of those with the same begin only lines are not sorted by
  // the second one.
  if (size != sizeof(OwnedRange)) return __real_backtrace_qsort(entries, count, size, compare);
  const std::span table(static_cast<OwnedRange*>(entries), count);
  sort_runs(table, [compare](const OwnedRange& a, const OwnedRange& b) { return compare(&a, &b) < 0; });
  constexpr OwnedRange kShort{0, 1, nullptr}, kLong{0, 2, nullptr};
  if (compare(&kLong, &kShort) < 0) make_disjoint(table);
}

int __real_backtrace_dwarf_add(  // NOLINT(bugprone-reserved-identifier)
    backtrace_state* state, std::uintptr_t base, const DwarfSections* sections, int is_big_endian,
    void* other_file, backtrace_error_callback report, void* data, void* find_line, void** entry);

int __wrap_backtrace_dwarf_add(  // NOLINT(bugprone-reserved-identifier)
    backtrace_state* state, std::uintptr_t base, const DwarfSections* sections, int is_big_endian,
    void* other_file, backtrace_error_callback report, void* data, void* find_line, void** entry) {
  DwarfSections better = *sections;
  if (sections->size[kLine] != 0 && sections->size[kLineTexts] != 0) {
    // Read as long as the process lives.
    const auto* const kept = or_end([sections] {
      return new LineSections(with_joined_folders(
          std::as_bytes(std::span(sections->data[kLine], sections->size[kLine])),
          {reinterpret_cast<const char*>(sections->data[kLineTexts]), sections->size[kLineTexts]}));
    });
    better.data[kLine] = reinterpret_cast<const unsigned char*>(kept->lines.data());
    better.data[kLineTexts] = reinterpret_cast<const unsigned char*>(kept->texts.data());
    better.size[kLineTexts] = kept->texts.size();
  }
  return __real_backtrace_dwarf_add(state, base, &better, is_big_endian, other_file, report, data, find_line,
                                    entry);
}
}

DwarfReader::DwarfReader(int descriptor, std::string path) : path_(std::move(path)), descriptor_(descriptor) {
  state_ = backtrace_create_state(path_.c_str(), 0, on_error, nullptr);
}

DwarfReader::~DwarfReader() {
  if (descriptor_ >= 0) close(descriptor_);
}

service::line_wire::Chain DwarfReader::find(std::uint64_t address) {
  service::line_wire::Chain chain;
  if (state_ == nullptr) return chain;
  given = {.path = path_.c_str(), .descriptor = descriptor_};
  backtrace_pcinfo(state_, address, add_frame, on_error, &chain);
  given = {};
  // Opened and mapped at the first question; a process may have many files.
  if (descriptor_ >= 0) close(std::exchange(descriptor_, -1));
  return chain;
}

}  // namespace profagent::helper
