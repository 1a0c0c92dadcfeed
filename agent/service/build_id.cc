#include "agent/service/build_id.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <elf.h>

#include "agent/safe/image_print.h"

namespace profagent::service {

namespace {

constexpr std::uint64_t kMaxNotes = 65536;
// SHA-1 has 20 bytes, --build-id=0x... may be longer.
constexpr std::size_t kMaxBuildId = 64;

std::string build_id_in_notes(const Bytes& bytes, std::uint64_t begin, std::uint64_t size,
                              std::uint64_t align) {
  size = std::min(size, kMaxNotes);
  // Only .note.gnu.property segments are aligned to 8; every other value means 4.
  align = align == 8 ? 8 : 4;
  const auto round_up = [align](std::uint64_t value) { return (value + align - 1) & ~(align - 1); };
  std::uint64_t at = 0;
  while (at + sizeof(Elf64_Nhdr) <= size) {
    const auto note = bytes.get<Elf64_Nhdr>(begin + at);
    if (!note) break;
    const std::uint64_t name = at + sizeof(Elf64_Nhdr);
    const std::uint64_t value = round_up(name + note->n_namesz);
    if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == sizeof(ELF_NOTE_GNU)) {
      std::array<std::byte, kMaxBuildId> id;
      const auto room = std::span(id).first(std::min<std::size_t>(note->n_descsz, id.size()));
      if (bytes.text(begin + name, sizeof(ELF_NOTE_GNU)) == ELF_NOTE_GNU && !room.empty() &&
          bytes.read(begin + value, room) == room.size()) {
        return to_hex(room);
      }
    }
    at = round_up(value + note->n_descsz);
  }
  return {};
}

}  // namespace

std::string to_hex(std::span<const std::byte> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const std::byte byte : bytes) {
    text += kDigits[std::to_integer<unsigned>(byte) >> 4];
    text += kDigits[std::to_integer<unsigned>(byte) & 15];
  }
  return text;
}

std::string build_id_of_file(const Bytes& file, std::span<const ElfSegment> segments,
                             std::span<const ElfSection> sections) {
  // Sections first: in a separate debug file the program headers are those of the stripped file, whose
  // offsets mean nothing there.
  for (const ElfSection& section : sections) {
    if (section.type != SHT_NOTE) continue;
    if (std::string id = build_id_in_notes(file, section.offset, section.size, 4); !id.empty()) return id;
  }
  for (const ElfSegment& segment : segments) {
    if (segment.type != PT_NOTE) continue;
    std::string id = build_id_in_notes(file, segment.offset, segment.file_size, segment.align);
    if (!id.empty()) return id;
  }
  return {};
}

std::string build_id_of_image(const Bytes& image, std::span<const ElfSegment> segments) {
  for (const ElfSegment& segment : segments) {
    if (segment.type != PT_NOTE) continue;
    std::string id = build_id_in_notes(image, segment.address, segment.memory_size, segment.align);
    if (!id.empty()) return id;
  }
  return {};
}

std::uint64_t print_of_file(const Bytes& file) {
  std::array<std::byte, safe::kImagePrintBytes> page{};
  file.read(0, page);
  return safe::image_print(page.data());
}

}  // namespace profagent::service
