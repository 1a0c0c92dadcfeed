// Source lines and inlined functions of addresses, from DWARF. On our thread only.
//
// DWARF reading would grow the program, so it is done by a helper process (the library itself, run with
// --symbolize), which starts when the first address is asked that is not remembered, and ends when it is
// idle. What was found, and that nothing was found, is remembered by the identity of the image, in bounded
// memory.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/service/debug_files.h"
#include "agent/service/line_helper_rules.h"
#include "agent/service/line_store.h"
#include "agent/service/modules.h"

namespace profagent::service {

struct LineAnswer {
  // One for each address, in their order. Empty: no debug information says anything.
  std::vector<LineChain> chains;
  std::shared_ptr<const LineStore> store = {};  // the chains are valid as long as somebody holds it
  // In one sentence why lines may be missing although there is debug information (no helper could be started,
  // it took too long, ...); empty when all was asked.
  std::string problem;
};

struct LineOptions {
  std::string helper = {};  // the file to run; empty: the one that this code was loaded from
  std::string_view debug_root = kDebugRoot;
  double patience_seconds = 10;  // of one request
  double idle_seconds = 10;      // then the helper ends
  double pause_seconds = 30;     // after a helper could not be started or has crashed
  std::string room_root = {};    // see memory_room()
};

// Until when one request waits for lines. Its first find() sets it, further ones have what is left.
struct LinePatience {
  MonotonicNanos until = 0;
};

class SourceLines {
 public:
  explicit SourceLines(LineOptions options = {});
  SourceLines(const SourceLines&) = delete;
  SourceLines& operator=(const SourceLines&) = delete;
  ~SourceLines();

  // `pcs` are addresses of calls (return address minus one) or of interrupted instructions; any order,
  // repetitions allowed. Fastest when all addresses of a request come in one call. What an earlier call has
  // waited for in vain is not waited for again.
  [[nodiscard]] LineAnswer find(const ModuleSet& modules, std::span<const std::uintptr_t> pcs,
                                LinePatience& patience);
  // The only one of its request.
  [[nodiscard]] LineAnswer find(const ModuleSet& modules, std::span<const std::uintptr_t> pcs) {
    LinePatience patience;
    return find(modules, pcs, patience);
  }

  // Ends the helper when it has been idle for long enough. Returns after how many seconds it wants to be
  // called again; 0: not at all.
  double tend();

  void clear() noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace profagent::service
