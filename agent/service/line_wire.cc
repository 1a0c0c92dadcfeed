#include "agent/service/line_wire.h"

#include <algorithm>
#include <cstring>

namespace profagent::service::line_wire {

namespace {

constexpr std::uint32_t kRequestMark = 0x71656e6c;  // "lneq"
constexpr std::uint32_t kAnswerMark = 0x61656e6c;   // "lnea"

struct RequestHeader {
  std::uint32_t mark = kRequestMark;
  std::uint32_t id = 0;
  std::uint32_t addresses = 0;
  std::uint32_t path_bytes = 0;
};

// Then the depth of each chain in a byte, the frames of all, and the texts.
struct AnswerHeader {
  std::uint32_t mark = kAnswerMark;
  std::uint32_t id = 0;
  std::uint32_t first = 0;
  std::uint32_t chains = 0;
  std::uint32_t text_bytes = 0;
};

class Writer {
 public:
  template <typename T>
  void put(std::span<const T> values) {
    const auto bytes = std::as_bytes(values);
    packet_.insert(packet_.end(), bytes.begin(), bytes.end());
  }
  [[nodiscard]] std::vector<std::byte> take() { return std::move(packet_); }

 private:
  std::vector<std::byte> packet_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> packet) noexcept : rest_(packet) {}

  // `values` whole, or false.
  template <typename T>
  bool get(std::span<T> values) noexcept {
    const std::size_t bytes = values.size_bytes();
    if (rest_.size() < bytes) return false;
    if (bytes != 0) std::memcpy(values.data(), rest_.data(), bytes);
    rest_ = rest_.subspan(bytes);
    return true;
  }
  // All that is left.
  [[nodiscard]] std::string_view text() const noexcept {
    return {reinterpret_cast<const char*>(rest_.data()), rest_.size()};
  }
  [[nodiscard]] std::size_t left() const noexcept { return rest_.size(); }

 private:
  std::span<const std::byte> rest_;
};

// Places in the middle of texts would make a packet many times its own size.
bool begins_text(std::string_view texts, std::uint32_t place) noexcept {
  return place < texts.size() && (place == 0 || texts[place - 1] == '\0');
}

std::string_view bounded(std::string_view text) noexcept {
  return text.size() > kMaxText ? std::string_view() : text.substr(0, text.find('\0'));
}

std::span<const Frame> bounded(std::span<const Frame> chain) noexcept {
  return chain.first(std::min(chain.size(), kMaxDepth));
}

}  // namespace

std::vector<std::byte> encode(const Request& request) {
  const RequestHeader header{.id = request.id,
                             .addresses = static_cast<std::uint32_t>(request.addresses.size()),
                             .path_bytes = static_cast<std::uint32_t>(request.path.size())};
  Writer writer;
  writer.put(std::span(&header, 1));
  writer.put(std::span<const std::uint64_t>(request.addresses));
  writer.put(std::span<const char>(request.path));
  return writer.take();
}

std::optional<Request> decode_request(std::span<const std::byte> packet) {
  Reader reader(packet);
  RequestHeader header;
  if (!reader.get(std::span(&header, 1)) || header.mark != kRequestMark) return std::nullopt;
  if (header.addresses == 0 || header.addresses > kMaxAddresses || header.path_bytes > kMaxPath)
    return std::nullopt;
  Request request{.id = header.id, .path = {}, .addresses = std::vector<std::uint64_t>(header.addresses)};
  if (!reader.get(std::span(request.addresses)) || reader.left() != header.path_bytes) return std::nullopt;
  request.path = reader.text();
  if (request.path.find('\0') != request.path.npos) return std::nullopt;
  return request;
}

std::optional<Answer> decode_answer(std::span<const std::byte> packet) {
  Reader reader(packet);
  AnswerHeader header;
  if (!reader.get(std::span(&header, 1)) || header.mark != kAnswerMark) return std::nullopt;
  if (header.chains == 0 || header.chains > kMaxAddresses || header.first > kMaxAddresses - header.chains)
    return std::nullopt;

  std::vector<std::uint8_t> depths(header.chains);
  if (!reader.get(std::span(depths))) return std::nullopt;
  std::size_t count = 0;
  for (const std::uint8_t depth : depths) {
    if (depth > kMaxDepth) return std::nullopt;
    count += depth;
  }
  if (count > reader.left() / sizeof(AnswerWriter::PackedFrame)) return std::nullopt;
  std::vector<AnswerWriter::PackedFrame> frames(count);
  if (!reader.get(std::span(frames))) return std::nullopt;
  // With a zero at the end, every place in it begins a text that ends.
  const std::string_view texts = reader.text();
  if (texts.size() != header.text_bytes || texts.empty() || texts.back() != '\0') return std::nullopt;

  Answer answer{.id = header.id, .first = header.first, .chains = std::vector<Chain>(header.chains)};
  auto frame = frames.begin();
  for (std::size_t i = 0; i < depths.size(); ++i) {
    answer.chains[i].reserve(depths[i]);
    for (unsigned depth = 0; depth < depths[i]; ++depth, ++frame) {
      if (!begins_text(texts, frame->function) || !begins_text(texts, frame->file)) return std::nullopt;
      const std::string_view function(texts.data() + frame->function);
      const std::string_view file(texts.data() + frame->file);
      answer.chains[i].push_back({.function = function, .file = file, .line = frame->line});
    }
  }
  return answer;
}

bool AnswerWriter::add(std::span<const Frame> whole) {
  const auto chain = bounded(whole);
  if (depths_.size() == kMaxAddresses) return false;
  const bool fits = size_with(chain) <= kMaxPacket;
  if (!fits && !depths_.empty()) return false;
  depths_.push_back(static_cast<std::uint8_t>(chain.size()));
  for (const Frame& frame : chain) {
    frames_.push_back({.function = fits ? place_of(bounded(frame.function)) : 0,
                       .file = fits ? place_of(bounded(frame.file)) : 0,
                       .line = frame.line});
  }
  return true;
}

std::vector<std::byte> AnswerWriter::finish() const {
  const AnswerHeader header{
      .id = id_, .first = first_, .chains = count(), .text_bytes = static_cast<std::uint32_t>(texts_.size())};
  Writer writer;
  writer.put(std::span(&header, 1));
  writer.put(std::span<const std::uint8_t>(depths_));
  writer.put(std::span<const PackedFrame>(frames_));
  writer.put(std::span<const char>(texts_));
  return writer.take();
}

// At most: a text that comes twice in the chain is counted twice.
std::size_t AnswerWriter::size_with(std::span<const Frame> chain) const {
  std::size_t size = sizeof(AnswerHeader) + depths_.size() + 1 +
                     (frames_.size() + chain.size()) * sizeof(PackedFrame) + texts_.size();
  for (const Frame& frame : chain) {
    for (const std::string_view text : {bounded(frame.function), bounded(frame.file)}) {
      if (!text.empty() && !places_.contains(std::string(text))) size += text.size() + 1;
    }
  }
  return size;
}

std::uint32_t AnswerWriter::place_of(std::string_view text) {
  if (text.empty()) return 0;
  const auto [place, is_new] =
      places_.try_emplace(std::string(text), static_cast<std::uint32_t>(texts_.size()));
  if (is_new) texts_.append(text).push_back('\0');
  return place->second;
}

}  // namespace profagent::service::line_wire
