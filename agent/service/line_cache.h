// Chains of source lines that are known, by image and address.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "agent/service/blocks.h"
#include "agent/service/line_store.h"
#include "agent/service/line_wire.h"
#include "agent/service/position_index.h"

namespace profagent::service {

// What is known of one image as a whole.
struct ImageLines {
  std::uint32_t number = 0;
  bool has_none = false;  // no debug information, or none that can be read
  unsigned crashes = 0;   // of helpers that were reading it
};

class LineCache {
 public:
  // Of what is kept from one request to the next: about twenty thousand addresses in three functions of
  // their own each, several times as many where functions are shared.
  static constexpr std::size_t kMaxBytes = 4UL << 20;
  // At no time more: what a helper says is all that a request needs, or more than it was asked for.
  static constexpr std::size_t kMostBytes = 32UL << 20;
  static_assert(2 * kMostBytes < UINT32_MAX, "places are 32 bits");

  [[nodiscard]] ImageLines& of(const std::string& identity);
  // False, and nothing is added, when there is no room. An address that is known stays as it is. After an
  // exception (no memory) the cache is to be cleared.
  [[nodiscard]] bool add(const ImageLines& image, std::uint64_t address, const line_wire::Chain& chain);

  // Empty: nothing is to be had. None: not known.
  [[nodiscard]] std::optional<LineChain> find(const ImageLines& image, std::uint64_t address) const;
  // What holds the chains. Null as long as there are none.
  [[nodiscard]] std::shared_ptr<const LineStore> store() const { return store_; }

  [[nodiscard]] bool is_full() const noexcept { return bytes() > kMaxBytes; }
  // The chains of a store that somebody still holds stay valid.
  void clear() noexcept;

 private:
  // One table for all images: hundreds of them may have a few addresses each.
  struct Known {
    std::uint64_t address;
    std::uint32_t image;
    std::uint32_t chain;  // its number in the store
  };

  [[nodiscard]] std::size_t bytes() const noexcept;
  // Its position in known_, plus one; or PositionIndex::kNone.
  [[nodiscard]] std::uint32_t position_of(const ImageLines& image, std::uint64_t address) const noexcept;

  std::map<std::string, ImageLines> images_;
  Blocks<Known> known_;
  PositionIndex index_;  // of positions plus one
  std::shared_ptr<LineStore> store_;
};

}  // namespace profagent::service
