// The GNU build id: the identity of what was linked, whatever the file is called and wherever it lies. And
// what stands in for it when there is none.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "agent/service/elf.h"

namespace profagent::service {

[[nodiscard]] std::string to_hex(std::span<const std::byte> bytes);

// Both give lower-case hex, empty when there is none. The first looks where the file has its notes, the
// second where the loader put them (`image` is read by link-time addresses).
[[nodiscard]] std::string build_id_of_file(const Bytes& file, std::span<const ElfSegment> segments,
                                           std::span<const ElfSection> sections);
[[nodiscard]] std::string build_id_of_image(const Bytes& image, std::span<const ElfSegment> segments);

// Of the first bytes; see safe::image_print().
[[nodiscard]] std::uint64_t print_of_file(const Bytes& file);

}  // namespace profagent::service
