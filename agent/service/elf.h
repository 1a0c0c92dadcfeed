// The parts of an ELF image that naming a pc needs: program headers, section headers, address conversion.
// 64-bit little-endian x86-64 only; everything else is refused. The image is untrusted: every count and
// size is bounded, and a damaged image yields fewer answers, never a crash.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "agent/service/elf_bytes.h"

namespace profagent::service {

struct ElfSegment {
  std::uint32_t type = 0;
  std::uint32_t flags = 0;
  std::uint64_t offset = 0;
  std::uint64_t address = 0;  // link-time
  std::uint64_t file_size = 0;
  std::uint64_t memory_size = 0;
  std::uint64_t align = 0;

  [[nodiscard]] bool executable() const noexcept;
  // Of the file, respectively of the image as loaded; both overflow-proof.
  [[nodiscard]] bool holds_offset(std::uint64_t value) const noexcept {
    return value >= offset && value - offset < file_size;
  }
  [[nodiscard]] bool holds_address(std::uint64_t value) const noexcept {
    return value >= address && value - address < memory_size;
  }
  bool operator==(const ElfSegment&) const = default;
};

struct ElfSection {
  std::uint32_t name = 0;  // offset into the section name table
  std::uint32_t type = 0;
  std::uint32_t link = 0;
  std::uint64_t flags = 0;
  std::uint64_t address = 0;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;

  [[nodiscard]] bool executable() const noexcept;
  [[nodiscard]] bool holds_address(std::uint64_t value) const noexcept {
    return value >= address && value - address < size;
  }
};

// The program headers, in file order; empty when the image is not ours to read.
[[nodiscard]] std::vector<ElfSegment> read_segments(const Bytes& image);

// The section headers of a file; empty when it has none. Memory has none.
[[nodiscard]] std::vector<ElfSection> read_sections(const Bytes& file);

[[nodiscard]] const ElfSection* find_section(std::span<const ElfSection> sections, std::uint32_t type);
[[nodiscard]] const ElfSection* find_section(const Bytes& file, std::span<const ElfSection> sections,
                                             std::string_view name);

// Link-time address of the byte at a file offset, if a PT_LOAD holds it; executable segments go first.
[[nodiscard]] std::optional<std::uint64_t> address_of_offset(std::span<const ElfSegment> segments,
                                                             std::uint64_t offset);

// What has to be added to link-time addresses when the file's first byte stands at `header`.
[[nodiscard]] std::optional<std::uint64_t> load_bias(std::span<const ElfSegment> segments,
                                                     std::uintptr_t header);

// A file read by link-time addresses, as the loader would lay it out.
class LoadedBytes final : public Bytes {
 public:
  LoadedBytes(const Bytes& file, std::span<const ElfSegment> segments) noexcept
      : file_(file), segments_(segments) {}
  std::size_t read(std::uint64_t address, std::span<std::byte> to) const noexcept override;

 private:
  const Bytes& file_;
  std::span<const ElfSegment> segments_;
};

}  // namespace profagent::service
