// Any text as a linker name.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "agent/service/demangle.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string name = "_Z" + std::string(reinterpret_cast<const char*>(data), size);
  static_cast<void>(profagent::service::demangle(name));
  return 0;
}
