// Which functions are the allocator itself: at the leaf of a heap stack they say nothing, since every stack
// ends there. The caller strips them, and keeps one of a stack that has nothing else.
#pragma once

#include <string_view>

namespace profagent::service {

// `name` is demangled, in the style of demangle(). Any thread.
[[nodiscard]] bool is_allocator_frame(std::string_view name);

}  // namespace profagent::service
