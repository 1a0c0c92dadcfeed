#include "agent/service/elf.h"

#include <algorithm>
#include <array>

#include <elf.h>

namespace profagent::service {

namespace {

constexpr std::size_t kMaxSegments = 256;
// A linked file has some forty; only objects made with -ffunction-sections, which nobody maps, have
// thousands.
constexpr std::size_t kMaxSections = 4096;
constexpr std::uint64_t kPageMask = 4095;

std::optional<Elf64_Ehdr> read_header(const Bytes& image) {
  const auto header = image.get<Elf64_Ehdr>(0);
  if (!header) return std::nullopt;
  const unsigned char* const ident = header->e_ident;
  if (ident[EI_MAG0] != ELFMAG0 || ident[EI_MAG1] != ELFMAG1 || ident[EI_MAG2] != ELFMAG2 ||
      ident[EI_MAG3] != ELFMAG3) {
    return std::nullopt;
  }
  if (ident[EI_CLASS] != ELFCLASS64 || ident[EI_DATA] != ELFDATA2LSB || header->e_machine != EM_X86_64) {
    return std::nullopt;
  }
  return header;
}

}  // namespace

bool ElfSegment::executable() const noexcept {
  return type == PT_LOAD && (flags & PF_X) != 0;
}
bool ElfSection::executable() const noexcept {
  return (flags & SHF_EXECINSTR) != 0;
}

std::vector<ElfSegment> read_segments(const Bytes& image) {
  std::vector<ElfSegment> segments;
  const auto header = read_header(image);
  if (!header || header->e_phentsize != sizeof(Elf64_Phdr)) return segments;
  const std::size_t count = std::min<std::size_t>(header->e_phnum, kMaxSegments);
  for (std::size_t i = 0; i < count; ++i) {
    const auto raw = image.get<Elf64_Phdr>(header->e_phoff + i * sizeof(Elf64_Phdr));
    if (!raw) break;
    segments.push_back({.type = raw->p_type,
                        .flags = raw->p_flags,
                        .offset = raw->p_offset,
                        .address = raw->p_vaddr,
                        .file_size = raw->p_filesz,
                        .memory_size = raw->p_memsz,
                        .align = raw->p_align});
  }
  return segments;
}

std::vector<ElfSection> read_sections(const Bytes& file) {
  std::vector<ElfSection> sections;
  const auto header = read_header(file);
  if (!header || header->e_shoff == 0 || header->e_shentsize != sizeof(Elf64_Shdr)) return sections;
  std::uint64_t count = header->e_shnum;
  if (count == 0) {
    // More than 65,279 sections: the true number stands in section 0.
    const auto first = file.get<Elf64_Shdr>(header->e_shoff);
    if (!first) return sections;
    count = first->sh_size;
  }
  count = std::min<std::uint64_t>(count, kMaxSections);
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto raw = file.get<Elf64_Shdr>(header->e_shoff + i * sizeof(Elf64_Shdr));
    if (!raw) break;
    sections.push_back({.name = raw->sh_name,
                        .type = raw->sh_type,
                        .link = raw->sh_link,
                        .flags = raw->sh_flags,
                        .address = raw->sh_addr,
                        .offset = raw->sh_offset,
                        .size = raw->sh_size});
  }
  return sections;
}

const ElfSection* find_section(std::span<const ElfSection> sections, std::uint32_t type) {
  const auto found = std::find_if(sections.begin(), sections.end(),
                                  [type](const ElfSection& section) { return section.type == type; });
  return found == sections.end() ? nullptr : &*found;
}

const ElfSection* find_section(const Bytes& file, std::span<const ElfSection> sections,
                               std::string_view name) {
  const auto header = read_header(file);
  if (!header) return nullptr;
  std::size_t names = header->e_shstrndx;
  if (names == SHN_XINDEX && !sections.empty()) names = sections[0].link;
  if (names >= sections.size()) return nullptr;
  const std::uint64_t base = sections[names].offset;
  for (const ElfSection& section : sections) {
    if (section.type == SHT_PROGBITS && file.text(base + section.name, name.size() + 1) == name)
      return &section;
  }
  return nullptr;
}

std::optional<std::uint64_t> address_of_offset(std::span<const ElfSegment> segments, std::uint64_t offset) {
  // Neighbouring segments can share a page of the file, but not a byte of it, unless a linker wants to save
  // space (-z noseparate-code never does): code first.
  const ElfSegment* best = nullptr;
  for (const ElfSegment& segment : segments) {
    if (segment.type != PT_LOAD || !segment.holds_offset(offset)) continue;
    if (best == nullptr || (segment.executable() && !best->executable())) best = &segment;
  }
  if (best == nullptr) return std::nullopt;
  return best->address + (offset - best->offset);
}

std::optional<std::uint64_t> load_bias(std::span<const ElfSegment> segments, std::uintptr_t header) {
  for (const ElfSegment& segment : segments) {
    if (segment.type == PT_LOAD && (segment.offset & ~kPageMask) == 0) {
      return header - (segment.address - segment.offset);
    }
  }
  return std::nullopt;
}

std::size_t LoadedBytes::read(std::uint64_t address, std::span<std::byte> to) const noexcept {
  for (const ElfSegment& segment : segments_) {
    const std::uint64_t into = address - segment.address;
    if (segment.type != PT_LOAD || address < segment.address || into >= segment.file_size) continue;
    return file_.read(segment.offset + into,
                      to.first(std::min<std::uint64_t>(to.size(), segment.file_size - into)));
  }
  return 0;
}

}  // namespace profagent::service
