// An allocator that may be left at any instruction: it only counts up. What is freed does not come back.
#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

#include "test/victims/kit.h"

static const size_t kRoom = (size_t)1 << 36;
static uintptr_t next;

__attribute__((constructor)) static void reserve(void) {
  if (next != 0) return;
  void* room = mmap(NULL, kRoom, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) _exit(4);
  next = (uintptr_t)room;
}

static void* allocate(size_t alignment, size_t size) {
  reserve();
  // Room for the size in front, which realloc wants.
  const uintptr_t end = __atomic_add_fetch(&next, size + 2 * alignment + 16, __ATOMIC_RELAXED);
  const uintptr_t block = (end - size) & ~(alignment - 1);
  ((size_t*)block)[-1] = size;
  return (void*)block;
}

void* malloc(size_t size) {
  return allocate(16, size);
}
void* calloc(size_t count, size_t size) {
  return allocate(16, count * size);
}
void free(void* block) {
  (void)block;
}

void* realloc(void* block, size_t size) {
  void* moved = allocate(16, size);
  if (block == NULL) return moved;
  const size_t old = ((size_t*)block)[-1];
  return memcpy(moved, block, old < size ? old : size);
}

void* aligned_alloc(size_t alignment, size_t size) {
  return allocate(alignment < 16 ? 16 : alignment, size);
}

int posix_memalign(void** block, size_t alignment, size_t size) {
  *block = aligned_alloc(alignment, size);
  return 0;
}
