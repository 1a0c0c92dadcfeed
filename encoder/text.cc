#include "encoder/text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "encoder/utf8.h"

namespace profagent::encoder {
namespace {

constexpr std::size_t kMaxName = 4096;
constexpr std::size_t kChunk = std::size_t{16} << 10U;

std::string clean(std::string_view text) {
  return to_utf8(text, kMaxName, Controls::kEscape);
}

template <typename Number>
void append_number(std::string& out, Number number, int base = 10) {
  std::array<char, 24> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number, base).ptr;
  out.append(digits.data(), end);
}

void append_hex(std::string& out, std::uint64_t number) {
  out += "0x";
  append_number(out, number, 16);
}

// Characters, not bytes, as Go's tabwriter counts.
std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; }));
}

// A cell followed by tabs up to its column's end: at least one character wider than the widest cell, rounded
// up to a tab stop.
void append_cell(std::string& out, std::string_view cell, std::size_t widest) {
  constexpr std::size_t kTab = 8;
  const std::size_t column = (widest + 1 + kTab - 1) / kTab * kTab;
  out += cell;
  out.append((column - width(cell) + kTab - 1) / kTab, '\t');
}

// Hands text on in pieces.
class TextWriter {
 public:
  TextWriter(std::span<const TextFrame> frames, Sink& sink) : frames_(frames), sink_(sink) {}

  std::string& line() { return line_; }

  void end_line() {
    line_ += '\n';
    if (line_.size() >= kChunk) flush();
  }

  // " 0x… 0x…": return addresses.
  void append_addresses(std::string& out, TextStack stack) const {
    for (const std::uint32_t frame : stack) {
      if (frames_[frame].inlined) continue;
      out += ' ';
      append_hex(out, frames_[frame].pc + 1);
    }
  }

  void write_stack(TextStack stack) {
    while (!stack.empty()) {
      const auto unknown = [&](std::uint32_t frame) { return frames_[frame].function.empty(); };
      // Columns end where a line lacks their cell, so each run of known frames is aligned for itself.
      const auto run = static_cast<std::size_t>(std::ranges::find_if(stack, unknown) - stack.begin());
      write_aligned(stack.first(run));
      stack = stack.subspan(run);
      if (stack.empty()) break;
      line_ += "#\t";
      append_hex(line_, frames_[stack.front()].pc);
      end_line();
      stack = stack.subspan(1);
    }
    end_line();
  }

  void write_memory_map(std::string_view map) {
    if (!map.empty()) {
      line_ += "\n--- Memory map: ---\n";
      flush();
      sink_.write(map);
      if (map.back() != '\n') end_line();
    }
    flush();
  }

  void flush() {
    sink_.write(line_);
    line_.clear();
  }

 private:
  struct Cells {
    std::string pc;
    std::string place;
  };

  void write_aligned(TextStack run) {
    std::vector<Cells> rows;
    Cells cells;
    std::size_t widest_pc = 0;
    std::size_t widest_place = 0;
    for (const std::uint32_t index : run) {
      const TextFrame& frame = frames_[index];
      cells.pc.clear();
      append_hex(cells.pc, frame.pc);
      cells.place = clean(frame.function) + '+';
      append_hex(cells.place, frame.offset);
      widest_pc = std::max(widest_pc, width(cells.pc));
      widest_place = std::max(widest_place, width(cells.place));
      rows.push_back(cells);
    }
    for (std::size_t i = 0; i < run.size(); ++i) {
      const TextFrame& frame = frames_[run[i]];
      line_ += "#\t";
      append_cell(line_, rows[i].pc, widest_pc);
      append_cell(line_, rows[i].place, widest_place);
      line_ += frame.file.empty() ? std::string("??") : clean(frame.file);
      line_ += ':';
      append_number(line_, frame.line);
      end_line();
    }
  }

  std::span<const TextFrame> frames_;
  Sink& sink_;
  std::string line_;  // and lines before it that have not been handed on
};

// A view of the records in the order of `before`.
template <typename Record, typename Before>
std::vector<const Record*> sorted(std::span<const Record> records, Before before) {
  std::vector<const Record*> result;
  result.reserve(records.size());
  for (const Record& record : records) result.push_back(&record);
  std::ranges::stable_sort(result, [&](const Record* a, const Record* b) { return before(*a, *b); });
  return result;
}

void append_heap_counts(std::string& out, const HeapTextRecord& record) {
  append_number(out, record.inuse_objects);
  out += ": ";
  append_number(out, record.inuse_bytes);
  out += " [";
  append_number(out, record.alloc_objects);
  out += ": ";
  append_number(out, record.alloc_bytes);
  out += "] @";
}

// Clients refuse bytes without objects.
HeapTextRecord plausible(HeapTextRecord record) {
  if (record.inuse_objects == 0) record.inuse_bytes = 0;
  if (record.alloc_objects == 0) record.alloc_bytes = 0;
  return record;
}

// As Go's %q, for clean text: what is left to escape are quotes, and controls that have a name.
std::string quoted(std::string_view text) {
  constexpr std::string_view kNamed = "\a\b\f\n\r\t\v\\\"";
  constexpr std::string_view kNames = "abfnrtv\\\"";
  std::string result = "\"";
  for (const char c : text.substr(0, kMaxName)) {
    if (const std::size_t known = kNamed.find(c); known != std::string_view::npos) {
      result += '\\';
      result += kNames[known];
    } else {
      result += c;
    }
  }
  result = to_utf8(result, std::string::npos, Controls::kEscape);
  result += '"';
  return result;
}

void append_labels(std::string& out, std::span<const TextLabel> labels) {
  std::vector<std::string> pairs;
  pairs.reserve(labels.size());
  for (const TextLabel& label : labels) pairs.push_back(quoted(label.key) + ':' + quoted(label.value));
  std::ranges::sort(pairs);
  out += "\n# labels: {";
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    if (i != 0) out += ", ";
    out += pairs[i];
  }
  out += '}';
}

}  // namespace

void write_heap_text(const HeapText& text, Sink& sink) {
  HeapTextRecord total;
  for (const HeapTextRecord& record : text.records) {
    const HeapTextRecord part = plausible(record);
    total.inuse_objects += part.inuse_objects;
    total.inuse_bytes += part.inuse_bytes;
    total.alloc_objects += part.alloc_objects;
    total.alloc_bytes += part.alloc_bytes;
  }
  if (total.alloc_bytes == total.inuse_bytes) ++total.alloc_bytes;

  TextWriter writer(text.frames, sink);
  writer.line() += "heap profile: ";
  append_heap_counts(writer.line(), total);
  writer.line() += text.heap_v2 ? " heap_v2/" : " heap/";
  append_number(writer.line(), text.heap_v2 ? text.rate : 2 * text.rate);
  writer.end_line();
  const auto larger = [](const HeapTextRecord& a, const HeapTextRecord& b) {
    return std::pair(a.inuse_bytes, a.alloc_bytes) > std::pair(b.inuse_bytes, b.alloc_bytes);
  };
  for (const HeapTextRecord* record : sorted(text.records, larger)) {
    append_heap_counts(writer.line(), plausible(*record));
    writer.append_addresses(writer.line(), record->stack);
    writer.end_line();
    writer.write_stack(record->stack);
  }
  if (!text.statistics.empty()) writer.end_line();
  for (const TextStatistic& statistic : text.statistics) {
    writer.line() += "# " + clean(statistic.key) + " = " + clean(statistic.value);
    writer.end_line();
  }
  writer.write_memory_map(text.memory_map);
}

void write_count_text(const CountText& text, Sink& sink) {
  TextWriter writer(text.frames, sink);
  struct Group {
    std::int64_t count = 0;
    TextStack stack;
  };
  std::unordered_map<std::string, Group> groups;  // by what is printed after the count
  std::int64_t total = 0;
  for (const CountTextRecord& record : text.records) {
    std::string key = "@";
    writer.append_addresses(key, record.stack);
    if (key == "@") key += " 0x0";
    if (!record.labels.empty()) append_labels(key, record.labels);
    Group& group = groups[std::move(key)];
    group.count += record.count;
    group.stack = record.stack;
    total += record.count;
  }
  std::vector<std::pair<std::string_view, Group>> order(groups.begin(), groups.end());
  std::ranges::sort(order, [](const auto& a, const auto& b) {
    if (a.second.count != b.second.count) return a.second.count > b.second.count;
    return a.first < b.first;
  });

  writer.line() += clean(text.name) + " profile: total ";
  append_number(writer.line(), total);
  writer.end_line();
  for (const auto& [key, group] : order) {
    append_number(writer.line(), group.count);
    writer.line() += ' ';
    writer.line() += key;
    writer.end_line();
    writer.write_stack(group.stack);
  }
  writer.write_memory_map(text.memory_map);
}

void write_contention_text(const ContentionText& text, Sink& sink) {
  TextWriter writer(text.frames, sink);
  const bool mutex = text.kind == ContentionText::Kind::kMutex;
  writer.line() += mutex ? "--- mutex:\ncycles/second=" : "--- contention:\ncycles/second=";
  append_number(writer.line(), text.cycles_per_second);
  writer.end_line();
  if (mutex) {
    writer.line() += "sampling period=";
    append_number(writer.line(), text.sampling_period);
    writer.end_line();
  }
  const auto longer = [](const ContentionTextRecord& a, const ContentionTextRecord& b) {
    return a.cycles > b.cycles;
  };
  for (const ContentionTextRecord* record : sorted(text.records, longer)) {
    append_number(writer.line(), record->cycles);
    writer.line() += ' ';
    append_number(writer.line(), record->count);
    writer.line() += " @";
    const std::size_t before = writer.line().size();
    writer.append_addresses(writer.line(), record->stack);
    if (writer.line().size() == before) writer.line() += " 0x0";
    writer.end_line();
    writer.write_stack(record->stack);
  }
  writer.write_memory_map(text.memory_map);
}

}  // namespace profagent::encoder
