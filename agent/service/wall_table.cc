#include "agent/service/wall_table.h"

#include <tuple>

#include "agent/service/stacks.h"

namespace profagent::service {

bool operator<(const WallTable::Key& a, const WallTable::Key& b) {
  const auto tie = [](const WallTable::Key& key) {
    return std::tie(key.stack, key.thread.words[0], key.thread.words[1], key.tid, key.state, key.obstacle);
  };
  return tie(a) < tie(b);
}

WallTable::Key WallTable::key_of(const WallPlace& place, const safe::ThreadName& thread, pid_t tid) {
  Key key{0, place.state, place.obstacle, thread, tid};
  if (stacks_.frame_count() < kMostFrames) {
    key.stack = stacks_.add(place.pcs);
  } else if (const auto known = stacks_.find(place.pcs)) {
    key.stack = *known;
  } else {
    key.obstacle = kOverflowFrameName;
    key.stack = stacks_.add({});
  }
  return key;
}

void WallTable::add(const WallPlace& place, const safe::ThreadName& thread, pid_t tid, const Sum& sum) {
  Key key = key_of(place, thread, tid);
  if (rows_.size() >= kMostRows && rows_.count(key) == 0)
    key = {stacks_.add({}), place.state, kOverflowFrameName, {}, 0};
  Sum& row = rows_[key];
  row.looks += sum.looks;
  row.nanos += sum.nanos;
}

}  // namespace profagent::service
