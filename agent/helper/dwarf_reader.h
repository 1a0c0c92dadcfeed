// Source lines of one file, from its DWARF, by libbacktrace. In the helper process only: it takes much
// memory, which is never given back, and what it reads may crash it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/service/line_wire.h"

struct backtrace_state;

namespace profagent::helper {

class DwarfReader {
 public:
  // Takes the descriptor over. `path` is what the file is called: other files that it refers to (debug link,
  // dwz) are looked for from there.
  DwarfReader(int descriptor, std::string path);
  ~DwarfReader();
  DwarfReader(const DwarfReader&) = delete;
  DwarfReader& operator=(const DwarfReader&) = delete;

  // Of a link-time address; empty when nothing is known. Valid as long as the reader.
  [[nodiscard]] service::line_wire::Chain find(std::uint64_t address);

 private:
  std::string path_;
  int descriptor_;                    // -1 once it is read
  backtrace_state* state_ = nullptr;  // libbacktrace has no way to free it
};

}  // namespace profagent::helper
