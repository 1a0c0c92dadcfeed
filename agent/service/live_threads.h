// How many of the threads that exist now were created by whom. On our thread only.
#pragma once

#include <cstdint>
#include <map>

#include "agent/safe/types.h"

namespace profagent::service {

struct LiveThreads {
  // By the row of the creator (creator_buckets.h), 0 for those that there was no room for.
  std::map<safe::BucketId, std::int64_t> created;
  // Was not created; may end before the others.
  bool has_main = false;
  // Past pthread_create() and thrd_create(), or before we were loaded; or just now.
  std::int64_t unknown = 0;
  // False: nothing is known of anybody's creator (ThreadHandles::are_readable()).
  bool handles_are_readable = true;
};

// Our own thread is left out.
[[nodiscard]] LiveThreads find_live_threads();

}  // namespace profagent::service
