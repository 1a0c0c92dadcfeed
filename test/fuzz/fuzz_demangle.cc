// Any text as a linker name, in any style.
#include <cstddef>
#include <cstdint>
#include <string>

#include "agent/service/demangle.h"

using profagent::service::DemangleStyle;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string rest(reinterpret_cast<const char*>(data), size);
  for (const char* const prefix : {"_Z", "_R", "_ZN"}) {
    for (const DemangleStyle style :
         {DemangleStyle::kDefault, DemangleStyle::kTemplates, DemangleStyle::kFull}) {
      static_cast<void>(profagent::service::demangle(prefix + rest, style));
    }
  }
  return 0;
}
