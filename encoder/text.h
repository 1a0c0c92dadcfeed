// The text forms of profiles (`?debug=1`): for people, and for every pprof client, which still reads these
// formats of the C++ profilers. Column for column what Go prints.
//
// All strings may be anything: invalid UTF-8 and control characters are escaped, and a name is cut at 4096
// bytes (clients give up on lines of 64 KiB). Frames and records are the caller's and only read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "encoder/sink.h"

namespace profagent::encoder {

// One line of a stack. Several records share one table of frames.
struct TextFrame {
  std::uint64_t pc = 0;  // of the call; the list of addresses shows pc + 1, from which clients subtract 1
  std::string_view function;  // empty: unknown, only the pc is shown
  std::uint64_t offset = 0;   // of pc from the function's entry
  std::string_view file;      // or the module, with line 0
  std::int64_t line = 0;
  bool inlined = false;  // into the next frame, whose pc it shares: no entry in the list of addresses
};

// Positions in the table of frames, leaf first.
using TextStack = std::span<const std::uint32_t>;

// What was sampled, not scaled: clients scale by the rate of the header.
struct HeapTextRecord {
  std::int64_t inuse_objects = 0;
  std::int64_t inuse_bytes = 0;
  std::int64_t alloc_objects = 0;
  std::int64_t alloc_bytes = 0;
  TextStack stack;
};

struct TextStatistic {
  std::string_view key;
  std::string_view value;
};

struct HeapText {
  std::span<const TextFrame> frames;
  std::span<const HeapTextRecord> records;
  std::int64_t rate = 0;                      // mean bytes between samples; the header shows twice that
  std::span<const TextStatistic> statistics;  // printed as "# key = value"
  std::string_view memory_map;                // lines of /proc/self/maps; empty: no such section
  bool heap_v2 = false;                       // gperftools' newer form, whose header shows the rate itself
};
// Records come out by bytes in use, the largest first. The header's totals are of the records; its allocated
// bytes are one too high when they equal those in use, or clients would take the four columns for two.
void write_heap_text(const HeapText& text, Sink& sink);

struct TextLabel {
  std::string_view key;
  std::string_view value;
};

struct CountTextRecord {
  std::int64_t count = 0;
  TextStack stack;
  std::span<const TextLabel> labels;
};

struct CountText {
  std::string_view name;  // "goroutine": no spaces
  std::span<const TextFrame> frames;
  std::span<const CountTextRecord> records;
  std::string_view memory_map;
};
// Records with the same addresses and labels are joined; they come out by count, then by their text. An
// empty stack shows as 0x0, because clients refuse a line without address.
void write_count_text(const CountText& text, Sink& sink);

struct ContentionTextRecord {
  std::int64_t cycles = 0;
  std::int64_t count = 0;
  TextStack stack;
};

struct ContentionText {
  enum class Kind { kBlock, kMutex };
  Kind kind = Kind::kBlock;
  std::int64_t cycles_per_second = 1'000'000'000;  // this value makes a cycle a nanosecond
  std::int64_t sampling_period = 1;  // mutex only: clients multiply by it, so 1 for unbiased values
  std::span<const TextFrame> frames;
  std::span<const ContentionTextRecord> records;
  std::string_view memory_map;
};
// By cycles, the most first.
void write_contention_text(const ContentionText& text, Sink& sink);

}  // namespace profagent::encoder
