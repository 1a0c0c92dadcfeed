// Readable names in the default style of google/pprof: no parameters, no template arguments, no return types.
//
//   _ZN2ns6Worker3runEv                      ns::Worker::run
//   _ZNSt6vectorIiSaIiEE9push_backERKi       std::vector::push_back
//   _ZN4core3ptr17h0123456789abcdefE         core::ptr
//
// Any thread; allocates with operator new only. A name that is not mangled, is damaged, or is longer than
// 64 KiB comes back as it is. Rust's v0 names (_R...) come back as they are too.
#pragma once

#include <string>
#include <string_view>

namespace profagent::service {

[[nodiscard]] std::string demangle(std::string_view linker_name);

}  // namespace profagent::service
