// What our thread and the helper that reads debug information (agent/helper/) say to each other: packets over
// a socket between the two. Both ends are the same file, so the words are the machine's own.
//
// The helper reads what any compiler, or any enemy, has written, and may have been taken over by it: what it
// answers is believed no further than that it is text. Pure data, no input or output.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace profagent::service::line_wire {

inline constexpr std::size_t kMaxPacket = 64UL * 1024;
inline constexpr std::size_t kMaxAddresses = 1024;  // of a request
inline constexpr std::size_t kMaxPath = 4096;
inline constexpr std::size_t kMaxDepth = 64;   // of a chain; what is further out is left out
inline constexpr std::size_t kMaxText = 8192;  // longer names are left empty

// The first packet of a helper.
inline constexpr std::string_view kHello = "profagent helper is ready";

// Travels with one descriptor: the file with the debug information.
struct Request {
  std::uint32_t id = 0;
  std::string_view path;  // of that file; files that it refers to are looked for from there
  std::vector<std::uint64_t> addresses;
};
[[nodiscard]] std::vector<std::byte> encode(const Request& request);
[[nodiscard]] std::optional<Request> decode_request(std::span<const std::byte> packet);

struct Frame {
  std::string_view function;
  std::string_view file;
  std::uint32_t line = 0;

  bool operator==(const Frame&) const = default;
};
using Chain = std::vector<Frame>;  // innermost first; empty: nothing is known

// Chains for the addresses [first, first + chains.size()) of a request: one request has as many answers as
// it takes.
struct Answer {
  std::uint32_t id = 0;
  std::uint32_t first = 0;
  std::vector<Chain> chains;  // texts point into the packet
};
[[nodiscard]] std::optional<Answer> decode_answer(std::span<const std::byte> packet);

// Packs chains until a packet is full. Each text is in it once.
class AnswerWriter {
 public:
  AnswerWriter(std::uint32_t id, std::uint32_t first) noexcept : id_(id), first_(first) {}

  // False, and nothing has changed, when the packet has no room; an empty one has room for anything, with
  // texts left out if need be.
  bool add(std::span<const Frame> chain);
  [[nodiscard]] std::uint32_t count() const noexcept { return static_cast<std::uint32_t>(depths_.size()); }
  [[nodiscard]] std::vector<std::byte> finish() const;

 private:
  struct PackedFrame {
    std::uint32_t function;  // offsets into the texts
    std::uint32_t file;
    std::uint32_t line;
  };
  friend std::optional<Answer> decode_answer(std::span<const std::byte> packet);

  [[nodiscard]] std::size_t size_with(std::span<const Frame> chain) const;
  std::uint32_t place_of(std::string_view text);

  std::uint32_t id_;
  std::uint32_t first_;
  std::vector<std::uint8_t> depths_;
  std::vector<PackedFrame> frames_;
  std::string texts_ = std::string(1, '\0');  // each ends with a zero; the first is the empty one
  std::unordered_map<std::string, std::uint32_t> places_;
};

}  // namespace profagent::service::line_wire
