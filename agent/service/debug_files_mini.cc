// Mini debug information: an ELF file with the symbols of static functions, in a section of the stripped
// file.
#include <algorithm>
#include <new>

#include <lzma.h>

#include "agent/service/debug_files.h"

namespace profagent::service {

namespace {

constexpr std::size_t kMaxUnpacked = 32UL * 1024 * 1024;
// Enough for a dictionary of xz -8; reserved, and touched only as far as there is data.
constexpr std::uint64_t kMaxDecoderMemory = 40UL * 1024 * 1024;
constexpr std::size_t kBlock = 65536;

// liblzma's own default would be the program's malloc.
void* allocate(void* /*opaque*/, std::size_t count, std::size_t size) {
  std::size_t bytes = 0;
  if (__builtin_mul_overflow(count, size, &bytes)) return nullptr;
  return ::operator new(bytes, std::nothrow);
}
void release(void* /*opaque*/, void* block) {
  ::operator delete(block);
}

std::optional<std::vector<std::byte>> unpack(const Bytes& file, std::uint64_t offset, std::uint64_t size) {
  const lzma_allocator allocator{.alloc = allocate, .free = release, .opaque = nullptr};
  lzma_stream stream = LZMA_STREAM_INIT;
  stream.allocator = &allocator;
  if (lzma_stream_decoder(&stream, kMaxDecoderMemory, 0) != LZMA_OK) return std::nullopt;
  struct Closer {
    lzma_stream& stream;
    ~Closer() { lzma_end(&stream); }
  } const closer{stream};

  const auto input = std::make_unique<std::byte[]>(kBlock);
  std::vector<std::byte> output;
  lzma_ret result = LZMA_OK;
  while (result == LZMA_OK) {
    if (stream.avail_in == 0 && size > 0) {
      const std::size_t got = file.read(offset, {input.get(), std::min<std::uint64_t>(kBlock, size)});
      stream.next_in = reinterpret_cast<const std::uint8_t*>(input.get());
      stream.avail_in = got;
      offset += got;
      size = got == 0 ? 0 : size - got;
    }
    const std::size_t done = output.size();
    if (done >= kMaxUnpacked) return std::nullopt;
    output.resize(done + kBlock);
    stream.next_out = reinterpret_cast<std::uint8_t*>(output.data() + done);
    stream.avail_out = kBlock;
    result = lzma_code(&stream, size == 0 ? LZMA_FINISH : LZMA_RUN);
    output.resize(output.size() - stream.avail_out);
  }
  if (result != LZMA_STREAM_END) return std::nullopt;
  return output;
}

}  // namespace

std::unique_ptr<Bytes> read_mini_debug_info(const Bytes& file, std::span<const ElfSection> sections) {
  const ElfSection* const section = find_section(file, sections, ".gnu_debugdata");
  if (section == nullptr) return nullptr;
  auto unpacked = unpack(file, section->offset, section->size);
  if (!unpacked) return nullptr;
  return std::make_unique<BufferBytes>(std::move(*unpacked));
}

}  // namespace profagent::service
