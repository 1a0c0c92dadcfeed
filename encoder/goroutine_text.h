// The text of all threads (`goroutine?debug=2`), in the form in which Go prints its goroutines when it
// panics: tools that read such dumps read this one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "encoder/sink.h"
#include "encoder/text.h"

namespace profagent::encoder {

struct GoroutineTextRecord {
  std::int64_t id = 0;
  std::string_view state;    // without comma and "]"
  std::int64_t minutes = 0;  // in that state; 0 is not shown
  TextStack stack;
  std::uint32_t frame = 0;     // position in the stack of the function that was called
  std::uint64_t argument = 0;  // with this; 0: not known
};

struct GoroutineText {
  std::span<const TextFrame> frames;
  std::span<const GoroutineTextRecord> records;
  std::span<const std::string>
      notes;  // lines "# NOTE" behind the records, where readers of dumps have stopped
};
void write_goroutine_text(const GoroutineText& text, Sink& sink);

}  // namespace profagent::encoder
