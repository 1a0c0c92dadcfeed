// What a hook forwards to when no object after the agent has the function: our exporting the name must not
// change what a program that asks for it gets to do.
#pragma once

#include <cstddef>

namespace profagent::hooks::fallback {

// C23, and glibc's long removed cfree: free() by another name.
void cfree(void* block);
void free_sized(void* block, std::size_t size);
void free_aligned_sized(void* block, std::size_t alignment, std::size_t size);

// jemalloc's extended API (jemalloc(3)) on top of the malloc family; the tcache and arena bits of `flags`
// mean nothing then.
void* mallocx(std::size_t size, int flags);
void* rallocx(void* block, std::size_t size, int flags);
void dallocx(void* block, int flags);
void sdallocx(void* block, std::size_t size, int flags);

}  // namespace profagent::hooks::fallback
