#include "agent/helper/dwarf_reader.h"

#include <cstdarg>
#include <cstring>
#include <utility>

#include <backtrace.h>
#include <fcntl.h>
#include <link.h>
#include <unistd.h>

namespace profagent::helper {

namespace {

// The file that libbacktrace is to open by this path; others it opens itself.
struct Given {
  const char* path = nullptr;
  int descriptor = -1;
};
Given given;

void ignore_error(void* /*data*/, const char* /*message*/, int /*error*/) {}

int add_frame(void* data, std::uintptr_t /*pc*/, const char* file, int line, const char* function) {
  auto& chain = *static_cast<service::line_wire::Chain*>(data);
  if (file == nullptr && function == nullptr) return 0;
  chain.push_back({.function = function == nullptr ? std::string_view() : function,
                   .file = file == nullptr ? std::string_view() : file,
                   .line = line > 0 ? static_cast<std::uint32_t>(line) : 0});
  return chain.size() == service::line_wire::kMaxDepth ? 1 : 0;
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
  return open(path, flags | O_NONBLOCK | O_NOCTTY);
}

DwarfReader::DwarfReader(int descriptor, std::string path) : path_(std::move(path)), descriptor_(descriptor) {
  state_ = backtrace_create_state(path_.c_str(), 0, ignore_error, nullptr);
}

DwarfReader::~DwarfReader() {
  close(descriptor_);
}

service::line_wire::Chain DwarfReader::find(std::uint64_t address) {
  service::line_wire::Chain chain;
  if (state_ == nullptr) return chain;
  given = {.path = path_.c_str(), .descriptor = descriptor_};
  backtrace_pcinfo(state_, address, add_frame, ignore_error, &chain);
  given = {};
  return chain;
}

}  // namespace profagent::helper
