// Tells two builds of a file apart when they have no build id: a number made of the first page, where the ELF
// header, the sizes of all parts and the first symbols are. The same in the file and in memory. Any thread,
// signal handlers too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <elf.h>

namespace profagent::safe {

inline constexpr std::size_t kImagePrintBytes = 4096;

// `page` has kImagePrintBytes, zeros behind the end of a file. 0: it is not the begin of an ELF image, or the
// program may change it.
[[nodiscard]] inline std::uint64_t image_print(const void* page) noexcept {
  const auto* const bytes = static_cast<const std::byte*>(page);
  Elf64_Ehdr header;
  std::memcpy(&header, bytes, sizeof(header));
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_phentsize != sizeof(Elf64_Phdr) ||
      header.e_phoff > kImagePrintBytes ||
      header.e_phnum > (kImagePrintBytes - header.e_phoff) / sizeof(Elf64_Phdr))
    return 0;
  std::size_t size = 0;
  for (std::size_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    std::memcpy(&segment, bytes + header.e_phoff + i * sizeof(segment), sizeof(segment));
    if (segment.p_type != PT_LOAD || segment.p_offset != 0) continue;
    if ((segment.p_flags & PF_W) == 0)
      size = segment.p_filesz < kImagePrintBytes ? segment.p_filesz : kImagePrintBytes;
    break;
  }
  if (size < sizeof(header)) return 0;
  constexpr std::uint64_t kFactor = 0x9e3779b97f4a7c15;
  std::uint64_t print = size;
  for (std::size_t at = 0; at < size; at += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes + at, size - at < sizeof(word) ? size - at : sizeof(word));
    print = (print ^ word) * kFactor;
    print ^= print >> 32U;
  }
  return print == 0 ? 1 : print;
}

}  // namespace profagent::safe
