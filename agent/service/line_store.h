// Chains of source lines, packed: a frame has 12 bytes, and each text and each chain is there once. Nothing
// moves and nothing is forgotten but all at once. On our thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "agent/service/blocks.h"
#include "agent/service/line_wire.h"
#include "agent/service/position_index.h"

namespace profagent::service {

struct SourceLine {
  // Both live as long as the store; one text has one place.
  std::string_view function;  // the linker's name, or in C the function's; empty: not known
  std::string_view file;      // absolute, unless the compiler was told otherwise; empty: not known
  // Where `function` calls the one before it in the chain, or where the pc is; 0: not known.
  std::uint32_t line = 0;

  bool operator==(const SourceLine&) const = default;
};

class LineStore;

// Of one address: the innermost inlined function first, the one that the symbol table names last. Empty: no
// debug information says anything. A view, valid as long as the store.
class LineChain {
 public:
  class Iterator {
   public:
    Iterator(const LineChain& chain, std::size_t index) noexcept : chain_(&chain), index_(index) {}
    SourceLine operator*() const noexcept { return (*chain_)[index_]; }
    Iterator& operator++() noexcept {
      ++index_;
      return *this;
    }
    bool operator!=(const Iterator& other) const noexcept { return index_ != other.index_; }

   private:
    const LineChain* chain_;
    std::size_t index_;
  };

  LineChain() = default;
  LineChain(const LineStore& store, std::uint32_t begin, std::uint32_t size) noexcept
      : store_(&store), begin_(begin), size_(size) {}

  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] SourceLine operator[](std::size_t index) const noexcept;
  [[nodiscard]] Iterator begin() const noexcept { return {*this, 0}; }
  [[nodiscard]] Iterator end() const noexcept { return {*this, size_}; }

  // Whether they are the same of one store, where equal ones are.
  bool operator==(const LineChain&) const = default;

 private:
  const LineStore* store_ = nullptr;
  std::uint32_t begin_ = 0;
  std::uint32_t size_ = 0;
};

class LineStore {
 public:
  LineStore() = default;
  LineStore(const LineStore&) = delete;
  LineStore& operator=(const LineStore&) = delete;

  // The number of the chain: the same for equal ones, 0 for an empty one. Texts longer than
  // line_wire::kMaxText are left empty. After std::bad_alloc the store is of no further use, but chains that
  // it has given stay valid. The owner sees to it that bytes() stays far below 4 GiB.
  std::uint32_t keep(const line_wire::Chain& chain);
  // `number` was got from keep().
  [[nodiscard]] LineChain chain(std::uint32_t number) const noexcept;

  [[nodiscard]] std::size_t bytes() const noexcept;

 private:
  friend class LineChain;
  struct Frame {
    std::uint32_t function;  // places in the texts
    std::uint32_t file;
    std::uint32_t line;

    bool operator==(const Frame&) const = default;
  };
  struct Place {
    std::uint32_t begin;  // in the frames
    std::uint32_t size;
  };

  std::uint32_t keep_text(std::string_view text);
  [[nodiscard]] std::string_view text(std::uint32_t place) const noexcept;
  [[nodiscard]] std::uint64_t hash_of(const Place& chain) const noexcept;
  [[nodiscard]] bool are_equal(const Place& one, const Place& other) const noexcept;

  // A text is its length in two bytes, which its place is behind, and its bytes. Place 0 is the empty one's.
  Blocks<char> texts_;
  Blocks<Frame> frames_;
  Blocks<Place> chains_;  // number 1 is the first
  PositionIndex text_index_;
  PositionIndex chain_index_;
};

}  // namespace profagent::service
