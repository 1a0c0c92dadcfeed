#include "agent/service/debug_files.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>

#include <elf.h>
#include <zlib.h>

#include "agent/service/build_id.h"

namespace profagent::service {

namespace {

// Reading a whole debug file costs about a second per gigabyte, and is only needed when there is no build id.
constexpr std::uint64_t kMaxChecksummed = 512UL * 1024 * 1024;
constexpr std::size_t kMaxFileName = 255;

bool same_headers(const Bytes& file, const Bytes& memory) {
  const auto ours = memory.get<Elf64_Ehdr>(0);
  const auto theirs = file.get<Elf64_Ehdr>(0);
  if (!ours || !theirs) return false;
  return std::memcmp(&*ours, &*theirs, sizeof(Elf64_Ehdr)) == 0 &&
         read_segments(file) == read_segments(memory);
}

bool is_running(const FileBytes& file, const Image& image) {
  if (!image.build_id.empty()) {
    return build_id_of_file(file, read_segments(file), {}) == image.build_id;
  }
  if (!image.live) return image.print != 0 && print_of_file(file) == image.print;
  if (image.header != 0) return same_headers(file, MemoryBytes(image.header));
  // Overlay file systems report other numbers in maps than in stat; then we rather show no names.
  return image.inode == 0 || (file.identity().inode == image.inode && file.identity().device == image.device);
}

std::unique_ptr<FileBytes> open_if_running(const char* path, Links links, const Image& image) {
  auto file = FileBytes::open(path, links);
  if (file && !is_running(*file, image)) file.reset();
  return file;
}

std::uint32_t checksum(const FileBytes& file) {
  static constexpr std::size_t kBlock = 65536;
  const auto block = std::make_unique<std::byte[]>(kBlock);
  uLong sum = crc32(0, nullptr, 0);
  for (std::uint64_t at = 0;;) {
    const std::size_t got = file.read(at, {block.get(), kBlock});
    if (got == 0) break;
    sum = crc32(sum, reinterpret_cast<const Bytef*>(block.get()), static_cast<uInt>(got));
    at += got;
  }
  return static_cast<std::uint32_t>(sum);
}

struct DebugLink {
  std::string name;
  std::uint32_t checksum = 0;
};

std::optional<DebugLink> read_debug_link(const Bytes& file, std::span<const ElfSection> sections) {
  const ElfSection* const section = find_section(file, sections, ".gnu_debuglink");
  if (section == nullptr) return std::nullopt;
  DebugLink link{.name =
                     file.text(section->offset, std::min<std::uint64_t>(section->size, kMaxFileName + 1))};
  // A name, its zero, padding to four bytes, the checksum.
  const std::uint64_t at = (link.name.size() + 4) & ~std::uint64_t{3};
  const auto sum = file.get<std::uint32_t>(section->offset + at);
  if (link.name.empty() || link.name.size() > kMaxFileName || at + 4 > section->size || !sum)
    return std::nullopt;
  // It names a file, not a way to one.
  if (link.name.find('/') != std::string::npos || link.name == "..") return std::nullopt;
  link.checksum = *sum;
  return link;
}

// A link may lead to a stripped file: Debian's have the name of the library itself.
bool is_stripped(const FileBytes& file, std::span<const ElfSection> sections) {
  return find_section(sections, SHT_SYMTAB) == nullptr &&
         find_section(file, sections, ".debug_info") == nullptr &&
         find_section(file, sections, ".zdebug_info") == nullptr;
}

// The build id decides when both have one.
bool belongs(const FileBytes& debug, const Image& image, std::optional<std::uint32_t> expected) {
  const std::vector<ElfSection> sections = read_sections(debug);
  if (is_stripped(debug, sections)) return false;
  const std::string build_id = build_id_of_file(debug, {}, sections);
  if (!build_id.empty() && !image.build_id.empty()) return build_id == image.build_id;
  return expected && debug.identity().size <= kMaxChecksummed && checksum(debug) == *expected;
}

std::unique_ptr<FileBytes> open_if_belongs(const std::string& path, const Image& image,
                                           std::optional<std::uint32_t> expected) {
  auto debug = FileBytes::open(path.c_str(), Links::kFollow);
  if (debug && !belongs(*debug, image, expected)) debug.reset();
  return debug;
}

}  // namespace

std::string identity_of(const Image& image) {
  if (!image.build_id.empty()) return image.build_id;
  if (!image.live) return image.path + "\ngone\n" + std::to_string(image.print);
  std::string identity =
      image.path + '\n' + std::to_string(image.device) + '\n' + std::to_string(image.inode);
  if (const auto file = FileBytes::identify(image.path.c_str())) {
    identity += '\n' + std::to_string(file->modified_nanos) + '\n' + std::to_string(file->size);
  }
  return identity;
}

std::unique_ptr<FileBytes> open_running_file(const Image& image) {
  if (image.path.starts_with('/')) {
    // The kernel's paths have no links left in them, the loader's (inode 0) do.
    const Links links = image.inode == 0 ? Links::kFollow : Links::kRefuse;
    if (auto file = open_if_running(image.path.c_str(), links, image)) return file;
  }
  if (image.main) {
    if (auto file = open_if_running("/proc/thread-self/exe", Links::kFollow, image)) return file;
  }
  if (image.live && image.inode != 0 && image.header != 0) {
    // A deleted file, for those who may (root). Only thread group leaders have this folder, so this fails
    // when the main thread is gone.
    const auto first = std::find_if(image.segments.begin(), image.segments.end(),
                                    [](const ElfSegment& segment) { return segment.type == PT_LOAD; });
    if (first != image.segments.end()) {
      constexpr std::uint64_t kPageMask = 4095;
      const std::uint64_t end = (image.bias + first->address + first->file_size + kPageMask) & ~kPageMask;
      std::array<char, 80> path;
      std::snprintf(path.data(), path.size(), "/proc/self/map_files/%lx-%lx", image.header, end);
      return open_if_running(path.data(), Links::kFollow, image);
    }
  }
  return nullptr;
}

std::unique_ptr<FileBytes> open_debug_file(const Image& image, const Bytes* file,
                                           std::span<const ElfSection> sections, std::string_view root) {
  const std::string base(root);
  const std::string& id = image.build_id;
  if (id.size() > 2) {
    const std::string path = base + "/.build-id/" + id.substr(0, 2) + "/" + id.substr(2) + ".debug";
    if (auto debug = open_if_belongs(path, image, std::nullopt)) return debug;
  }
  if (file == nullptr) return nullptr;
  const auto link = read_debug_link(*file, sections);
  const std::size_t slash = image.path.rfind('/');
  if (!link || slash == std::string::npos) return nullptr;
  const std::string folder = image.path.substr(0, slash + 1);
  for (const std::string& place : {folder, folder + ".debug/", base + folder}) {
    const std::string path = place + link->name;
    // A file can link to a name that is its own.
    if (path == image.path) continue;
    if (auto debug = open_if_belongs(path, image, link->checksum)) return debug;
  }
  return nullptr;
}

}  // namespace profagent::service
