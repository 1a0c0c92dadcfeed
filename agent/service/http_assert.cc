#include "agent/service/http_assert.h"

#include <cstring>
#include <stdexcept>

namespace boost {

void assertion_failed(const char* expression, const char* function, const char* /*file*/, long /*line*/) {
  // Wrong until Boost 1.86 (boostorg/beast pull request 2861): of a body that is empty and comes in pieces
  // fewer bytes can be there, and what follows is right with them.
  if (std::strcmp(expression, "n >= 5") == 0 && std::strstr(function, "parse_chunk_header") != nullptr)
    return;
  throw std::logic_error(expression);
}

void assertion_failed_msg(const char* expression, const char* /*message*/, const char* function,
                          const char* file, long line) {
  assertion_failed(expression, function, file, line);
}

}  // namespace boost
