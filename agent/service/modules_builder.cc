#include "agent/service/modules_builder.h"

#include <algorithm>
#include <array>
#include <utility>

#include <elf.h>
#include <sys/auxv.h>

#include "agent/service/build_id.h"

namespace profagent::service {

namespace {

constexpr std::uintptr_t kPage = 4096;
constexpr std::uintptr_t page_down(std::uintptr_t address) {
  return address & ~(kPage - 1);
}

bool starts_with_any(std::string_view text, std::span<const std::string_view> prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [text](std::string_view prefix) { return text.starts_with(prefix); });
}

// Memory that has a name, but no file that anybody could read.
bool is_anonymous(std::string_view path) {
  static constexpr std::array<std::string_view, 7> kNames = {"[heap]",         "[stack",    "[anon", "//anon",
                                                             "/anon_hugepage", "/dev/zero", "/i915"};
  return path.empty() || starts_with_any(path, kNames);
}

// Files that compilers at run time write code into; a library can lie there too, and then has an ELF header.
bool may_be_code_buffer(std::string_view path) {
  static constexpr std::array<std::string_view, 3> kNames = {"/memfd:", "/SYSV", "/dev/shm/"};
  return starts_with_any(path, kNames);
}

}  // namespace

void ModuleSetBuilder::add(const Mapping& mapping) {
  const Piece piece{.start = mapping.start,
                    .limit = mapping.limit,
                    .offset = mapping.offset,
                    .executable = mapping.executable,
                    .anonymous = is_anonymous(mapping.path)};
  if (piece.anonymous) {
    if (piece.executable) run_.pieces.push_back(piece);
    return;
  }
  if (mapping.path.front() == '[') {
    finish_run();
    if (mapping.executable) add_kernel_code(mapping);
    return;
  }
  if (mapping.path != run_.path || mapping.inode != run_.inode || mapping.device != run_.device) {
    // Code that was moved to huge pages stands in front of what is left of its file.
    Piece in_front;
    if (!run_.pieces.empty() && run_.pieces.back().anonymous && run_.pieces.back().limit == mapping.start &&
        mapping.offset != 0) {
      in_front = run_.pieces.back();
      run_.pieces.pop_back();
    }
    finish_run();
    run_.path = mapping.path;
    run_.device = mapping.device;
    run_.inode = mapping.inode;
    if (in_front.limit != 0) run_.pieces.push_back(in_front);
  }
  run_.pieces.push_back(piece);
}

void ModuleSetBuilder::finish_run() {
  const Run run = std::exchange(run_, {});
  const bool has_code =
      std::any_of(run.pieces.begin(), run.pieces.end(), [](const Piece& piece) { return piece.executable; });
  if (!has_code) return;

  std::uint32_t image = kNoImage;
  for (const Piece& piece : run.pieces) {
    const bool inside = image != kNoImage && set_.images_[image].holds(piece.start);
    const bool may_start = piece.offset == 0 || image == kNoImage;
    if (!run.path.empty() && !inside && may_start && (!piece.anonymous || image == kNoImage)) {
      const std::uint32_t candidate = add_image(run, piece);
      // Anonymous code without an ELF header in front of a file has nothing to do with it.
      if (piece.anonymous && set_.images_[candidate].header == 0) {
        set_.images_.pop_back();
      } else {
        image = candidate;
      }
    }
    if (piece.executable) add_piece(piece, image);
  }
}

std::uint32_t ModuleSetBuilder::add_image(const Run& run, const Piece& first) {
  Image image;
  image.path = run.path;
  image.device = run.device;
  image.inode = run.inode;
  image.live = true;
  if (first.offset == 0) {
    const MemoryBytes header(first.start);
    image.segments = read_segments(header);
    if (const auto bias = load_bias(image.segments, first.start)) {
      image.header = first.start;
      image.bias = *bias;
      image.build_id = build_id_of_image(MemoryBytes(image.bias), image.segments);
    } else {
      image.segments.clear();
    }
  }
  set_.images_.push_back(std::move(image));
  return static_cast<std::uint32_t>(set_.images_.size() - 1);
}

void ModuleSetBuilder::add_piece(const Piece& piece, std::uint32_t image) {
  const bool code_buffer =
      image != kNoImage && set_.images_[image].header == 0 && may_be_code_buffer(set_.images_[image].path);
  if (image != kNoImage && piece.anonymous) {
    add_code_of_image(piece, image);
  } else if (image == kNoImage || code_buffer) {
    add_module({.start = piece.start, .limit = piece.limit, .offset = piece.offset, .path = "[jit]"});
  } else {
    add_module({.start = piece.start,
                .limit = piece.limit,
                .offset = piece.offset,
                .kind = ModuleKind::kFile,
                .image = image,
                .path = set_.images_[image].path,
                .build_id = set_.images_[image].build_id});
  }
}

// Anonymous code where a file's code should be: a program that copied its text to huge pages.
void ModuleSetBuilder::add_code_of_image(const Piece& piece, std::uint32_t image) {
  const Image& owner = set_.images_[image];
  for (const ElfSegment& segment : owner.segments) {
    const std::uintptr_t begin = page_down(owner.bias + segment.address);
    const std::uintptr_t end = owner.bias + segment.address + segment.memory_size;
    if (!segment.executable() || end <= piece.start || begin >= piece.limit) continue;
    const std::uintptr_t start = std::max(begin, piece.start);
    add_module({.start = start,
                .limit = piece.limit,
                .offset = page_down(segment.offset) + (start - begin),
                .kind = ModuleKind::kFile,
                .image = image,
                .path = owner.path,
                .build_id = owner.build_id});
    return;
  }
  add_module({.start = piece.start, .limit = piece.limit, .offset = piece.offset, .path = "[jit]"});
}

void ModuleSetBuilder::add_kernel_code(const Mapping& mapping) {
  Module module{.start = mapping.start,
                .limit = mapping.limit,
                .offset = mapping.offset,
                .kind = ModuleKind::kVdso,
                .path = std::string(mapping.path)};
  const Run run{.path = module.path};
  const std::uint32_t image = add_image(run, {.start = mapping.start});
  if (set_.images_[image].header == 0) {
    set_.images_.pop_back();
  } else {
    module.image = image;
    module.build_id = set_.images_[image].build_id;
  }
  add_module(std::move(module));
}

// A build id that could not be read from memory is read from the file, if that still is the file.
void ModuleSetBuilder::finish_live() {
  finish_run();
  for (Image& image : set_.images_) {
    if (image.header != 0 || !image.path.starts_with('/')) continue;
    const auto file = FileBytes::open(image.path.c_str(), Links::kRefuse);
    if (!file || file->identity().inode != image.inode || file->identity().device != image.device) continue;
    image.segments = read_segments(*file);
    image.build_id = build_id_of_file(*file, image.segments, {});
  }
  for (Module& module : set_.modules_) {
    if (module.build_id.empty() && module.image != kNoImage)
      module.build_id = set_.images_[module.image].build_id;
  }
  mark_main();
  for (std::uint32_t i = 0; i < set_.modules_.size(); ++i) {
    paint(set_.modules_[i].start, set_.modules_[i].limit, i);
  }
}

void ModuleSetBuilder::mark_main() {
  const std::uintptr_t headers = getauxval(AT_PHDR);
  for (Image& image : set_.images_) image.main = headers != 0 && image.holds(headers);
  // Without program headers to tell by, the lowest file: the kernel puts position-dependent and -independent
  // programs alike below the libraries.
  const bool known =
      std::any_of(set_.images_.begin(), set_.images_.end(), [](const Image& image) { return image.main; });
  const auto first_file = std::find_if(set_.modules_.begin(), set_.modules_.end(),
                                       [](const Module& module) { return module.kind == ModuleKind::kFile; });
  if (!known && first_file != set_.modules_.end()) set_.images_[first_file->image].main = true;
  std::stable_partition(set_.modules_.begin(), set_.modules_.end(), [&](const Module& module) {
    return module.image != kNoImage && set_.images_[module.image].main;
  });
}

// Gives [start, limit) to `module`, whoever had it.
void ModuleSetBuilder::paint(std::uintptr_t start, std::uintptr_t limit, std::uint32_t module) {
  using Range = ModuleSet::Range;
  std::vector<Range>& ranges = set_.ranges_;
  auto first =
      std::lower_bound(ranges.begin(), ranges.end(), start,
                       [](const Range& range, std::uintptr_t value) { return range.limit <= value; });
  auto last = first;
  std::array<Range, 3> replacement;
  std::size_t count = 0;
  if (first != ranges.end() && first->start < start)
    replacement[count++] = {first->start, start, first->module};
  replacement[count++] = {start, limit, module};
  for (; last != ranges.end() && last->start < limit; ++last) {
    if (last->limit > limit) replacement[count++] = {limit, last->limit, last->module};
  }
  first = ranges.erase(first, last);
  ranges.insert(first, replacement.begin(), replacement.begin() + static_cast<std::ptrdiff_t>(count));
}

ModuleSet ModuleSetBuilder::take() {
  return std::move(set_);
}

}  // namespace profagent::service
