// The half of ModuleSetBuilder that does not read maps: modules that are gone, and the loader's list.
#include <algorithm>

#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

#include "agent/service/build_id.h"
#include "agent/service/modules_builder.h"

namespace profagent::service {

namespace {

constexpr std::uintptr_t kPage = 4096;
constexpr std::uintptr_t page_down(std::uintptr_t address) {
  return address & ~(kPage - 1);
}
constexpr std::uintptr_t page_up(std::uintptr_t address) {
  return page_down(address + kPage - 1);
}

struct Span {
  std::uintptr_t start = 0;
  std::uintptr_t end = 0;
  bool operator==(const Span&) const = default;
};

// All that the loader reserves for an object, at link-time addresses, in whole pages.
Span span_of(std::span<const ElfSegment> segments) {
  Span span;
  bool any = false;
  for (const ElfSegment& segment : segments) {
    if (segment.type != PT_LOAD) continue;
    if (!any) span.start = page_down(segment.address);
    any = true;
    span.end = std::max(span.end, page_up(segment.address + segment.memory_size));
  }
  return span;
}

}  // namespace

void ModuleSetBuilder::remember(std::span<const SeenModule> seen) {
  finish_live();
  std::vector<const SeenModule*> by_age;
  by_age.reserve(seen.size());
  for (const SeenModule& module : seen) {
    if (module.start < module.end) by_age.push_back(&module);
  }
  std::stable_sort(by_age.begin(), by_age.end(),
                   [](const SeenModule* a, const SeenModule* b) { return a->epoch < b->epoch; });
  for (const SeenModule* module : by_age) remember_one(*module);
}

bool ModuleSetBuilder::is_live(const SeenModule& seen, const std::string& build_id) {
  bool found = false;
  for (std::uint32_t i = 0; i < set_.modules_.size(); ++i) {
    const Module& module = set_.modules_[i];
    if (module.image == kNoImage) continue;
    const Image& image = set_.images_[module.image];
    if (!image.live || module.start >= seen.end || module.limit <= seen.start) continue;
    if (build_id.empty() || image.build_id.empty()) {
      // The loader's path may be a link, so without build ids the shape decides.
      const Span shape = span_of(image.segments);
      const bool same_shape = image.header != 0 && shape.start + image.bias == page_down(seen.start) &&
                              shape.end + image.bias == page_up(seen.end);
      if (!same_shape && (seen.path == nullptr || image.path != seen.path)) continue;
    } else if (build_id != image.build_id) {
      continue;
    }
    paint(module.start, module.limit, i);
    found = true;
  }
  return found;
}

void ModuleSetBuilder::remember_one(const SeenModule& seen) {
  const std::string build_id = to_hex(seen.build_id);
  if (is_live(seen, build_id)) return;

  Image image;
  image.path = seen.path == nullptr ? "" : seen.path;
  image.build_id = build_id;
  image.print = seen.print;
  if (image.path.starts_with('/')) {
    if (const auto file = FileBytes::open(image.path.c_str(), Links::kFollow)) {
      image.segments = read_segments(*file);
      const Span shape = span_of(image.segments);
      const bool same_shape = shape.end - shape.start == page_up(seen.end) - page_down(seen.start);
      const bool same_build = build_id.empty() ? seen.print != 0 && print_of_file(*file) == seen.print
                                               : build_id_of_file(*file, image.segments, {}) == build_id;
      if (!same_shape || !same_build) image.segments.clear();
    }
  }
  if (image.segments.empty()) {
    // The file is gone. Nearly every library is linked at 0, so addresses already in the cache, or a separate
    // debug file, can still be found by the build id.
    image.segments.push_back({.type = PT_LOAD,
                              .flags = PF_X,
                              .file_size = seen.end - seen.start,
                              .memory_size = seen.end - seen.start});
  }
  image.header = page_down(seen.start);
  image.bias = image.header - span_of(image.segments).start;

  const auto index = static_cast<std::uint32_t>(set_.images_.size());
  for (const ElfSegment& segment : image.segments) {
    if (!segment.executable()) continue;
    const Module module{.start = image.bias + page_down(segment.address),
                        .limit = image.bias + page_up(segment.address + segment.memory_size),
                        .offset = page_down(segment.offset),
                        .kind = ModuleKind::kFile,
                        .image = index,
                        .path = image.path,
                        .build_id = build_id};
    paint(module.start, module.limit, static_cast<std::uint32_t>(set_.modules_.size()));
    add_module(module);
  }
  set_.images_.push_back(std::move(image));
}

int ModuleSetBuilder::on_loaded_object(void* info, std::size_t /*size*/, void* builder) {
  const auto& object = *static_cast<const dl_phdr_info*>(info);
  auto& self = *static_cast<ModuleSetBuilder*>(builder);
  Image image;
  image.live = true;
  image.bias = object.dlpi_addr;
  image.path = object.dlpi_name == nullptr ? "" : object.dlpi_name;
  for (std::size_t i = 0; i < object.dlpi_phnum; ++i) {
    const Elf64_Phdr& header = object.dlpi_phdr[i];
    image.segments.push_back({.type = header.p_type,
                              .flags = header.p_flags,
                              .offset = header.p_offset,
                              .address = header.p_vaddr,
                              .file_size = header.p_filesz,
                              .memory_size = header.p_memsz,
                              .align = header.p_align});
  }
  const Span shape = span_of(image.segments);
  image.header = image.bias + shape.start;
  ModuleKind kind = ModuleKind::kFile;
  if (image.header == getauxval(AT_SYSINFO_EHDR) && image.header != 0) {
    image.path = "[vdso]";
    kind = ModuleKind::kVdso;
  } else if (image.path.empty()) {
    image.path = self.main_path_;
  }
  image.build_id = build_id_of_image(MemoryBytes(image.bias), image.segments);

  const auto index = static_cast<std::uint32_t>(self.set_.images_.size());
  for (const ElfSegment& segment : image.segments) {
    if (!segment.executable()) continue;
    self.add_module({.start = image.bias + page_down(segment.address),
                     .limit = image.bias + page_up(segment.address + segment.memory_size),
                     .offset = page_down(segment.offset),
                     .kind = kind,
                     .image = index,
                     .path = image.path,
                     .build_id = image.build_id});
  }
  self.set_.images_.push_back(std::move(image));
  return 0;
}

void ModuleSetBuilder::add_loaded_objects(std::string_view main_path) {
  main_path_ = main_path;
  // An exception must not pass the loader's function: it holds its lock.
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t size, void* builder) {
        try {
          return on_loaded_object(info, size, builder);
        } catch (...) {
          return 1;
        }
      },
      this);
}

}  // namespace profagent::service
