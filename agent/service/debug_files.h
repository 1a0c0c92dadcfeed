// Finds the files that name an image's functions: its own, if it still is what runs, and a separate debug
// file. Nothing is believed because of its path: a file is taken when its build id, or else its checksum, its
// headers, or for a library that is gone its first page, agree.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "agent/service/elf.h"
#include "agent/service/modules.h"

namespace profagent::service {

// The image's own file; null when it was deleted or replaced and cannot be reached in another way.
[[nodiscard]] std::unique_ptr<FileBytes> open_running_file(const Image& image);

// What is remembered of an image is remembered under this: its build id, or else what stat says of its file.
[[nodiscard]] std::string identity_of(const Image& image);

inline constexpr std::string_view kDebugRoot = "/usr/lib/debug";

// ROOT/.build-id/xx/yyyy.debug, or what .gnu_debuglink of `file` (may be null) names: beside the file, in
// .debug beside it, or below ROOT. Null when there is none.
[[nodiscard]] std::unique_ptr<FileBytes> open_debug_file(const Image& image, const Bytes* file,
                                                         std::span<const ElfSection> sections,
                                                         std::string_view root = kDebugRoot);

// The symbols that distributions such as Fedora leave in stripped files (.gnu_debugdata, compressed with xz);
// null when there are none, they are damaged, or they are larger than 32 MiB.
[[nodiscard]] std::unique_ptr<Bytes> read_mini_debug_info(const Bytes& file,
                                                          std::span<const ElfSection> sections);

}  // namespace profagent::service
