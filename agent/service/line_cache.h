// Chains of source lines that are known, by image and address. Equal texts are kept once, and so are equal
// chains of one image: neighbouring addresses have the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "agent/service/line_wire.h"
#include "agent/service/source_lines.h"

namespace profagent::service {

// What is known of one image.
struct ImageLines {
  // Null: nothing is to be had.
  std::unordered_map<std::uint64_t, std::shared_ptr<const LineChain>> by_address;
  bool has_none = false;  // no debug information, or none that can be read
  unsigned crashes = 0;   // of helpers that were reading it
};

class LineCache {
 public:
  // Of what is kept from one request to the next: about ten thousand addresses that have nothing in common,
  // several times as many of one program.
  static constexpr std::size_t kMaxBytes = 4UL << 20;
  // At no time more: what a helper says is all that a request needs, or more than it was asked for.
  static constexpr std::size_t kMostBytes = 32UL << 20;

  [[nodiscard]] ImageLines& of(const std::string& identity) { return images_[identity]; }
  // False, and nothing is added, when there is no room. After an exception (no memory) it is to be cleared.
  [[nodiscard]] bool add(ImageLines& image, std::uint64_t address, const line_wire::Chain& chain);

  [[nodiscard]] bool is_full() const noexcept { return bytes_ > kMaxBytes; }
  // Chains that somebody still holds stay valid.
  void clear() noexcept;

 private:
  // Texts never move and are forgotten only all at once.
  class Texts {
   public:
    // Adds to `bytes` what a new text takes.
    std::string_view keep(std::string_view text, std::size_t& bytes);

   private:
    static constexpr std::size_t kBlockBytes = 8192;
    std::vector<std::unique_ptr<char[]>> blocks_;
    std::size_t left_ = 0;
    std::unordered_set<std::string_view> known_;
  };
  // A chain whose texts live as long as it does.
  struct KeptChain {
    LineChain chain;
    std::shared_ptr<Texts> texts;
  };

  std::map<std::string, ImageLines> images_;
  std::unordered_map<std::size_t, std::shared_ptr<const LineChain>> by_hash_;
  std::shared_ptr<Texts> texts_;  // null as long as there are none
  std::size_t bytes_ = 0;         // about
};

}  // namespace profagent::service
