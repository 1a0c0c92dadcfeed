// What one wall profile has seen: for how long which thread stood where. On our thread only.
//
// Bounded: what there is no room for is charged to one frame that says so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string_view>
#include <vector>

#include <sys/types.h>

#include "agent/safe/thread_name.h"
#include "agent/safe/types.h"
#include "agent/service/stack_pool.h"

namespace profagent::service {

// Where a thread stands. The texts are constants.
struct WallPlace {
  std::string_view state;
  std::string_view obstacle;  // why the stack is not known: stands in front of it
  std::vector<safe::Pc> pcs;
};

class WallTable {
 public:
  static constexpr std::size_t kMostRows = 1 << 16;
  static constexpr std::size_t kMostFrames = 1 << 20;

  struct Key {
    std::uint32_t stack = 0;
    std::string_view state;
    std::string_view obstacle;
    safe::ThreadName thread;
    pid_t tid = 0;  // 0: not told apart
    friend bool operator<(const Key& a, const Key& b);
  };
  struct Sum {
    std::uint64_t looks = 0;
    std::int64_t nanos = 0;
  };

  void add(const WallPlace& place, const safe::ThreadName& thread, pid_t tid, const Sum& sum);

  [[nodiscard]] const std::map<Key, Sum>& rows() const { return rows_; }
  [[nodiscard]] const StackPool& stacks() const { return stacks_; }

 private:
  [[nodiscard]] Key key_of(const WallPlace& place, const safe::ThreadName& thread, pid_t tid);

  StackPool stacks_;
  std::map<Key, Sum> rows_;
};

}  // namespace profagent::service
