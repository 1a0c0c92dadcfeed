// .eh_frame_hdr and .eh_frame: from a pc to its function's entry.
#include "agent/safe/cfi.h"

namespace profagent::safe {

namespace {

constexpr std::uint8_t kTableEncoding = 0x3b;  // datarel | sdata4: what every linker writes
constexpr std::uint32_t kLongLength = 0xffffffff;
// A scan without a table is at most this many entries: a bounded time in a signal handler.
constexpr unsigned kMaxScannedEntries = 1U << 14U;

struct TableRow {
  std::int32_t function;
  std::int32_t entry;
};

// The length field of a CIE or FDE; leaves the cursor bounded to the entry. 0-length is the terminator.
bool open_entry(CfiMemory& memory, std::uintptr_t at, CfiCursor& body, std::uintptr_t& next) noexcept {
  CfiCursor head(memory, at, memory.end());
  std::uint64_t length = head.take<std::uint32_t>();
  if (length == kLongLength) length = head.take<std::uint64_t>();
  if (!head.ok() || length == 0 || length > memory.end() - head.at()) return false;
  next = head.at() + length;
  body = CfiCursor(memory, head.at(), next);
  return body.ok();
}

// The augmentation data, whose letters come in the order of the string.
void read_augmentation(CfiCursor& text, CfiCursor& data, CfiFunction& function) noexcept {
  for (;;) {
    switch (text.u8()) {
      case 0:
        return;
      case 'R':
        function.pointer_encoding = data.u8();
        break;
      case 'P':
        data.skip_pointer(data.u8());
        break;
      case 'L':
        data.u8();
        break;
      case 'S':
        function.signal_frame = true;
        break;
      case 'B':
        break;
      default:
        // Its length is known ("z"), so what we do not understand is skipped; only 'R' after it would be
        // lost.
        return;
    }
    if (!text.ok() || !data.ok()) return;
  }
}

bool read_common(CfiMemory& memory, std::uintptr_t at, CfiFunction& function, bool& augmented) noexcept {
  std::uintptr_t next = 0;
  CfiCursor body(memory, at, at);
  if (!open_entry(memory, at, body, next)) return false;
  if (body.take<std::uint32_t>() != 0) return false;  // not a CIE
  const std::uint8_t version = body.u8();
  if (version != 1 && version != 3) return false;
  CfiCursor text = body;
  while (body.u8() != 0) {
  }
  function.code_factor = body.uleb();
  function.data_factor = body.sleb();
  const std::uint64_t return_register = version == 1 ? body.u8() : body.uleb();
  if (!body.ok() || return_register != kRegisterPc) return false;
  augmented = false;
  CfiCursor peek = text;
  const std::uint8_t first = peek.u8();
  if (first == 'z') {
    augmented = true;
    text = peek;
    const std::uint64_t bytes = body.uleb();
    CfiCursor data = body;
    body.skip(bytes);
    if (!body.ok()) return false;
    read_augmentation(text, data, function);
    if (!data.ok() || data.at() > body.at()) return false;
  } else if (first != 0) {
    return false;
  }
  function.common_program = body.at();
  function.common_program_end = next;
  return true;
}

// Reads the entry at `at`; false when it is a CIE, the terminator or nonsense. `next` is 0 when nothing
// follows.
bool read_function(CfiMemory& memory, std::uintptr_t at, std::uintptr_t header, CfiFunction& function,
                   std::uintptr_t& next) noexcept {
  next = 0;
  CfiCursor body(memory, at, at);
  std::uintptr_t after = 0;
  if (!open_entry(memory, at, body, after)) return false;
  next = after;
  const std::uintptr_t field = body.at();
  const std::uint32_t back = body.take<std::uint32_t>();
  if (!body.ok() || back == 0 || back > field - memory.begin()) return false;
  function = CfiFunction{};
  bool augmented = false;
  if (!read_common(memory, field - back, function, augmented)) return false;
  function.begin = body.pointer(function.pointer_encoding, {header, 0});
  // The size has the pointer's format, and counts from nothing.
  const std::uintptr_t size = body.pointer(function.pointer_encoding & 0x0fU, {});
  function.end = function.begin + size;
  if (augmented) body.skip(body.uleb());
  function.program = body.at();
  function.program_end = after;
  return body.ok() && function.end >= function.begin;
}

bool search_table(CfiMemory& memory, std::uintptr_t header, std::uintptr_t table, std::uint64_t count, Pc pc,
                  CfiFunction& function) noexcept {
  if (count == 0 || table > memory.end() || count > (memory.end() - table) / sizeof(TableRow)) return false;
  // The last row at or below pc.
  std::uint64_t low = 0;
  std::uint64_t high = count;
  TableRow row{};
  while (low < high) {
    const std::uint64_t middle = low + (high - low) / 2;
    if (!memory.load(table + middle * sizeof(TableRow), row)) return false;
    const std::uintptr_t begin = header + static_cast<std::uintptr_t>(std::intptr_t{row.function});
    if (begin <= pc) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == 0 || !memory.load(table + (low - 1) * sizeof(TableRow), row)) return false;
  const std::uintptr_t entry = header + static_cast<std::uintptr_t>(std::intptr_t{row.entry});
  std::uintptr_t next = 0;
  return read_function(memory, entry, header, function, next) && pc >= function.begin && pc < function.end;
}

bool scan_entries(CfiMemory& memory, std::uintptr_t header, std::uintptr_t first, Pc pc,
                  CfiFunction& function) noexcept {
  std::uintptr_t at = first;
  for (unsigned i = 0; i < kMaxScannedEntries && at != 0; ++i) {
    std::uintptr_t next = 0;
    if (read_function(memory, at, header, function, next) && pc >= function.begin && pc < function.end) {
      return true;
    }
    at = next;
  }
  return false;
}

}  // namespace

bool find_function(CfiMemory& memory, std::uintptr_t header, Pc pc, CfiFunction& function) noexcept {
  CfiCursor head(memory, header, memory.end());
  if (head.u8() != 1) return false;
  const std::uint8_t frame_encoding = head.u8();
  const std::uint8_t count_encoding = head.u8();
  const std::uint8_t table_encoding = head.u8();
  const CfiBases bases{header, 0};
  if (frame_encoding == kPointerOmitted) return false;
  const std::uintptr_t entries = head.pointer(frame_encoding, bases);
  if (!head.ok()) return false;
  if (count_encoding != kPointerOmitted && table_encoding == kTableEncoding) {
    const std::uint64_t count = head.pointer(count_encoding, bases);
    if (!head.ok()) return false;
    return search_table(memory, header, head.at(), count, pc, function);
  }
  return scan_entries(memory, header, entries, pc, function);
}

}  // namespace profagent::safe
