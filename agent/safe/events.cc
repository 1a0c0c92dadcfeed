#include "agent/safe/events.h"

namespace profagent::safe {

constinit Events events;

}  // namespace profagent::safe
