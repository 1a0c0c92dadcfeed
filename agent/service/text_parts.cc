#include "agent/service/text_parts.h"

#include <array>
#include <charconv>
#include <utility>

#include <sys/sysmacros.h>

#include "agent/safe/counters.h"
#include "agent/service/maps.h"

namespace profagent::service {

namespace {

void append_hex(std::string& out, std::uint64_t number, std::size_t width) {
  std::array<char, 16> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number, 16).ptr;
  const auto length = static_cast<std::size_t>(end - digits.data());
  if (length < width) out.append(width - length, '0');
  out.append(digits.data(), length);
}

}  // namespace

std::vector<std::string> losses() {
  std::vector<std::string> sentences;
  safe::for_each_counter([&](std::string_view name, std::string_view sentence, std::uint64_t value) {
    if (value == 0 || !name.starts_with("dropped_")) return;
    sentences.push_back(std::to_string(value) + " " + std::string(sentence));
  });
  return sentences;
}

std::string executable_memory_map() {
  std::string out;
  read_maps([&](const Mapping& mapping) {
    if (!mapping.executable) return;
    append_hex(out, mapping.start, 8);
    out += '-';
    append_hex(out, mapping.limit, 8);
    out += mapping.readable ? " r-xp " : " --xp ";
    append_hex(out, mapping.offset, 8);
    out += ' ';
    append_hex(out, gnu_dev_major(mapping.device), 2);
    out += ':';
    append_hex(out, gnu_dev_minor(mapping.device), 2);
    out += ' ';
    out += std::to_string(mapping.inode);
    out += ' ';
    out += mapping.path;
    out += '\n';
  });
  return out;
}

TextFrames::TextFrames(const ReadableStacks& stacks) {
  first_.reserve(stacks.frames().size() + 1);
  std::vector<ReadableStacks::Function> functions;
  for (const ReadableStacks::Frame& frame : stacks.frames()) {
    first_.push_back(static_cast<std::uint32_t>(frames_.size()));
    if (frame.pc == 0) {
      encoder::TextFrame text;
      text.pc = encoder::synthetic_address(kOverflowFrameName);
      text.function = kOverflowFrameName;
      frames_.push_back(text);
      continue;
    }
    const ResolvedPc& resolved = frame.resolved;
    stacks.functions(frame, functions);
    for (const ReadableStacks::Function& function : functions) {
      encoder::TextFrame text;
      text.pc = frame.pc;
      text.function = function.name;
      text.offset = resolved.start == 0 || resolved.start > frame.pc ? 0 : frame.pc - resolved.start;
      text.file = function.file;
      if (text.file.empty() && resolved.module != nullptr) text.file = resolved.module->path;
      text.line = function.line;
      text.inlined = &function != &functions.back();
      frames_.push_back(text);
    }
  }
  first_.push_back(static_cast<std::uint32_t>(frames_.size()));
}

std::size_t TextFrames::expand(std::vector<std::uint32_t>& positions, std::size_t index) const {
  std::vector<std::uint32_t> expanded;
  std::size_t found = 0;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    for (std::uint32_t frame = first_[positions[i]]; frame < first_[positions[i] + 1]; ++frame)
      expanded.push_back(frame);
    if (i == index) found = expanded.size() - 1;
  }
  positions = std::move(expanded);
  return found;
}

}  // namespace profagent::service
