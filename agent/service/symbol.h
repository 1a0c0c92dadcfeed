// What is known of a function by its name.
#pragma once

#include <string>

namespace profagent::service {

struct Symbol {
  std::string name;         // demangled; or a placeholder: [libfoo.so], [vdso], [jit], [unknown]
  std::string system_name;  // the linker's; for a placeholder the same
};

}  // namespace profagent::service
