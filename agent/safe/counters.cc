#include "agent/safe/counters.h"

namespace profagent::safe {

constinit Counters counters;

}  // namespace profagent::safe
