// Line tables as any compiler, or nobody's, may have written them.
#include "agent/helper/line_folders.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto lines = std::as_bytes(std::span(data, size));
  static constexpr char kTexts[] = "/base\0../src\0/usr/include\0no end";
  static_cast<void>(profagent::helper::with_joined_folders(lines, {kTexts, sizeof(kTexts)}));
  return 0;
}
