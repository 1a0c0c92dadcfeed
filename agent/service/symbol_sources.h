// What names the frames of all profiles, and remembers what it has found. On our thread only.
#pragma once

#include "agent/service/source_lines.h"
#include "agent/service/symbols.h"

namespace profagent::service {

struct SymbolSources {
  Symbolizer symbolizer;
  SourceLines source_lines;
};

}  // namespace profagent::service
