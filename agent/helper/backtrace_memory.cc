// Memory for libbacktrace's small things, of which it takes one for each function of a file and gives back
// nearly as many. Its own allocator takes a page from the kernel for nearly each, and walks a list with each
// that is given back.
#include <array>
#include <cstddef>
#include <cstdint>

#include <backtrace.h>

namespace {

constexpr std::size_t kStep = 8;  // of sizes; also the alignment
constexpr std::size_t kLargest = 256;
constexpr std::size_t kChunk = std::size_t{1} << 20;

struct Block {
  Block* next;
};
std::array<Block*, kLargest / kStep + 1> given_back;
std::byte* chunk;
std::size_t left;

}  // namespace

// The names are the linker's, for --wrap.
// NOLINTBEGIN(bugprone-reserved-identifier)
extern "C" {

void* __real_backtrace_alloc(backtrace_state* state, std::size_t size, backtrace_error_callback report,
                             void* data);
void __real_backtrace_free(backtrace_state* state, void* memory, std::size_t size,
                           backtrace_error_callback report, void* data);

void* __wrap_backtrace_alloc(backtrace_state* state, std::size_t size, backtrace_error_callback report,
                             void* data) {
  if (size == 0 || size > kLargest) return __real_backtrace_alloc(state, size, report, data);
  const std::size_t steps = (size + kStep - 1) / kStep;
  if (Block* const block = given_back[steps]; block != nullptr) {
    given_back[steps] = block->next;
    return block;
  }
  if (left < steps * kStep) {
    auto* const more = static_cast<std::byte*>(__real_backtrace_alloc(state, kChunk, report, data));
    if (more == nullptr) return nullptr;
    chunk = more;
    left = kChunk;
  }
  void* const place = chunk;
  chunk += steps * kStep;
  left -= steps * kStep;
  return place;
}

// Also gets what was allocated otherwise: the end of a vector.
void __wrap_backtrace_free(backtrace_state* state, void* memory, std::size_t size,
                           backtrace_error_callback report, void* data) {
  const std::size_t steps = size / kStep;
  if (steps == 0) return;
  if (size > kLargest || reinterpret_cast<std::uintptr_t>(memory) % kStep != 0)
    return __real_backtrace_free(state, memory, size, report, data);
  auto* const block = static_cast<Block*>(memory);
  block->next = given_back[steps];
  given_back[steps] = block;
}
}
// NOLINTEND(bugprone-reserved-identifier)
