#include "agent/service/allocator_frames.h"

#include <algorithm>
#include <array>

namespace profagent::service {

namespace {

constexpr std::array<std::string_view, 35> kAllocators = {
    // clang-format off
    // C, with glibc's own names for the same functions.
    "malloc", "calloc", "realloc", "reallocarray", "memalign", "posix_memalign", "aligned_alloc", "valloc", "pvalloc",
    "__libc_malloc", "__libc_calloc", "__libc_realloc", "__libc_reallocarray", "__libc_memalign", "__libc_valloc",
    "__libc_pvalloc", "__posix_memalign",
    "_mid_memalign", "_int_malloc", "_int_memalign", "_int_realloc", "malloc_hook_ini", "tcache_init",
    // jemalloc's own interface.
    "mallocx", "rallocx",
    // C++. Every overload (aligned, nothrow) has the same name in this style.
    "operator new", "operator new[]",
    // The standard library's way there, GCC 12 and its neighbours, libc++.
    "__gnu_cxx::new_allocator::allocate", "std::__new_allocator::allocate", "std::allocator::allocate",
    "std::allocator_traits::allocate", "std::__allocator_traits_base::allocate", "std::__1::allocator::allocate",
    "std::__1::allocator_traits::allocate", "std::__1::__libcpp_allocate",
    // clang-format on
};

}  // namespace

bool is_allocator_frame(std::string_view name) {
  return std::find(kAllocators.begin(), kAllocators.end(), name) != kAllocators.end();
}

}  // namespace profagent::service
