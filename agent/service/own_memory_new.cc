// Puts own_memory behind operator new and, with -Wl,--wrap, behind the malloc of everything that is linked
// into the .so (libstdc++'s exceptions, zlib, lzma). For the .so only: in a test program it would replace the
// program's.
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

#include "agent/service/own_memory.h"

namespace own_memory = profagent::service::own_memory;

namespace {

void* allocate_or_throw(std::size_t bytes, std::size_t alignment) {
  // Not a loop around std::get_new_handler(): the handler would be the program's idea of what to do.
  void* block = own_memory::allocate(bytes, alignment);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

// Throwing needs memory too, and the runtime ends the process when it gets none: so that a full pool ends one
// request only, a few small blocks lie apart.
class ExceptionReserve {
 public:
  void* take(std::size_t bytes) noexcept {
    if (bytes > kBlockSize) return nullptr;
    for (std::size_t i = 0; i < kBlocks; ++i) {
      if (!taken_[i].exchange(true, std::memory_order_acquire)) return blocks_[i];
    }
    return nullptr;
  }

  bool give_back(void* block) noexcept {
    auto* bytes = static_cast<unsigned char*>(block);
    if (bytes < blocks_[0] || bytes > blocks_[kBlocks - 1]) return false;
    taken_[static_cast<std::size_t>(bytes - blocks_[0]) / kBlockSize].store(false, std::memory_order_release);
    return true;
  }

 private:
  static constexpr std::size_t kBlocks = 16;
  static constexpr std::size_t kBlockSize = 1024;
  alignas(16) unsigned char blocks_[kBlocks][kBlockSize] = {};
  std::atomic<bool> taken_[kBlocks] = {};
};

constinit ExceptionReserve exception_reserve;

// libstdc++ asks for an emergency pool of 72,704 bytes while the .so is loaded. The reserve does that job,
// and a program that is never looked at pays for nothing.
void* allocate_for_c(std::size_t bytes) noexcept {
  if (!own_memory::is_open()) return exception_reserve.take(bytes);
  void* block = own_memory::allocate(bytes);
  return block != nullptr ? block : exception_reserve.take(bytes);
}

}  // namespace

extern "C" {

// By the linker's rule these are the program's allocator, which libc used for what it returns to us.
void __real_free(void* block);                         // NOLINT(bugprone-reserved-identifier)
void* __real_realloc(void* block, std::size_t bytes);  // NOLINT(bugprone-reserved-identifier)

void* __wrap_malloc(std::size_t bytes) {
  void* block = allocate_for_c(bytes);
  if (block == nullptr) errno = ENOMEM;
  return block;
}

void __wrap_free(void* block) {
  if (own_memory::owns(block)) {
    own_memory::release(block);
  } else if (block != nullptr && !exception_reserve.give_back(block)) {
    __real_free(block);
  }
}

void* __wrap_calloc(std::size_t count, std::size_t size) {
  std::size_t bytes = 0;
  void* block = __builtin_mul_overflow(count, size, &bytes) ? nullptr : allocate_for_c(bytes);
  if (block == nullptr) {
    errno = ENOMEM;
    return nullptr;
  }
  return std::memset(block, 0, bytes);
}

void* __wrap_realloc(void* block, std::size_t bytes) {
  if (block != nullptr && !own_memory::owns(block)) return __real_realloc(block, bytes);
  void* moved = own_memory::resize(block, bytes);
  if (moved == nullptr) errno = ENOMEM;
  return moved;
}

}  // extern "C"

void* operator new(std::size_t bytes) {
  return allocate_or_throw(bytes, 16);
}
void* operator new[](std::size_t bytes) {
  return allocate_or_throw(bytes, 16);
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return allocate_or_throw(bytes, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return allocate_or_throw(bytes, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t bytes, const std::nothrow_t& /*tag*/) noexcept {
  return own_memory::allocate(bytes);
}
void* operator new[](std::size_t bytes, const std::nothrow_t& /*tag*/) noexcept {
  return own_memory::allocate(bytes);
}
void* operator new(std::size_t bytes, std::align_val_t alignment, const std::nothrow_t& /*tag*/) noexcept {
  return own_memory::allocate(bytes, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t bytes, std::align_val_t alignment, const std::nothrow_t& /*tag*/) noexcept {
  return own_memory::allocate(bytes, static_cast<std::size_t>(alignment));
}

void operator delete(void* block) noexcept {
  own_memory::release(block);
}
void operator delete[](void* block) noexcept {
  own_memory::release(block);
}
void operator delete(void* block, std::size_t /*bytes*/) noexcept {
  own_memory::release(block);
}
void operator delete[](void* block, std::size_t /*bytes*/) noexcept {
  own_memory::release(block);
}
void operator delete(void* block, std::align_val_t /*alignment*/) noexcept {
  own_memory::release(block);
}
void operator delete[](void* block, std::align_val_t /*alignment*/) noexcept {
  own_memory::release(block);
}
void operator delete(void* block, std::size_t /*bytes*/, std::align_val_t /*alignment*/) noexcept {
  own_memory::release(block);
}
void operator delete[](void* block, std::size_t /*bytes*/, std::align_val_t /*alignment*/) noexcept {
  own_memory::release(block);
}
void operator delete(void* block, const std::nothrow_t& /*tag*/) noexcept {
  own_memory::release(block);
}
void operator delete[](void* block, const std::nothrow_t& /*tag*/) noexcept {
  own_memory::release(block);
}
void operator delete(void* block, std::align_val_t /*alignment*/, const std::nothrow_t& /*tag*/) noexcept {
  own_memory::release(block);
}
void operator delete[](void* block, std::align_val_t /*alignment*/, const std::nothrow_t& /*tag*/) noexcept {
  own_memory::release(block);
}
