#include "encoder/goroutine_text.h"

#include <array>
#include <charconv>

#include "encoder/utf8.h"

namespace profagent::encoder {

namespace {

constexpr std::size_t kMaxName = 4096;
constexpr std::size_t kChunk = std::size_t{16} << 10U;

template <typename Number>
void append(std::string& out, Number number, int base = 10) {
  std::array<char, 24> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number, base).ptr;
  out.append(digits.data(), end);
}

std::string clean(std::string_view text) {
  return to_utf8(text, kMaxName, Controls::kEscape);
}

void append_frame(std::string& out, const TextFrame& frame, std::uint64_t argument) {
  if (frame.function.empty()) {
    out += "0x";
    append(out, frame.pc, 16);
  } else {
    out += clean(frame.function);
  }
  if (argument == 0) {
    out += "(...)\n\t";
  } else {
    out += "(0x";
    append(out, argument, 16);
    out += ")\n\t";
  }
  out += frame.file.empty() ? std::string("??") : clean(frame.file);
  out += ':';
  append(out, frame.line);
  out += " +0x";
  append(out, frame.offset, 16);
  out += '\n';
}

}  // namespace

void write_goroutine_text(const GoroutineText& text, Sink& sink) {
  std::string out;
  for (const GoroutineTextRecord& record : text.records) {
    out += "goroutine ";
    append(out, record.id);
    out += " [";
    out += record.state;
    if (record.minutes > 0) {
      out += ", ";
      append(out, record.minutes);
      out += " minutes";
    }
    out += "]:\n";
    for (std::size_t i = 0; i < record.stack.size(); ++i) {
      append_frame(out, text.frames[record.stack[i]], i == record.frame ? record.argument : 0);
    }
    out += '\n';
    if (out.size() >= kChunk) {
      sink.write(out);
      out.clear();
    }
  }
  for (const std::string& note : text.notes) out += "# " + clean(note) + '\n';
  sink.write(out);
}

}  // namespace profagent::encoder
