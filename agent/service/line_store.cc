#include "agent/service/line_store.h"

#include <cstring>

#include "encoder/hash_index.h"

namespace profagent::service {

namespace {

using Length = std::uint16_t;
static_assert(line_wire::kMaxText <= UINT16_MAX && sizeof(Length) + line_wire::kMaxText < 64UL * 1024);

}  // namespace

SourceLine LineChain::operator[](std::size_t index) const noexcept {
  const LineStore::Frame& frame = store_->frames_[begin_ + index];
  return {.function = store_->text(frame.function), .file = store_->text(frame.file), .line = frame.line};
}

std::uint32_t LineStore::keep(const line_wire::Chain& chain) {
  if (chain.empty()) return 0;
  const Place place = {.begin = static_cast<std::uint32_t>(frames_.size()),
                       .size = static_cast<std::uint32_t>(chain.size())};
  for (const line_wire::Frame& frame : chain) {
    frames_.push_back(
        {.function = keep_text(frame.function), .file = keep_text(frame.file), .line = frame.line});
  }
  const std::uint64_t hash = hash_of(place);
  const std::uint32_t known =
      chain_index_.find(hash, [&](std::uint32_t number) { return are_equal(chains_[number - 1], place); });
  if (known != PositionIndex::kNone) {
    frames_.shrink(place.begin);
    return known;
  }
  chain_index_.reserve([&](std::uint32_t number) { return hash_of(chains_[number - 1]); });
  chains_.push_back(place);
  const auto number = static_cast<std::uint32_t>(chains_.size());
  chain_index_.insert(hash, number);
  return number;
}

LineChain LineStore::chain(std::uint32_t number) const noexcept {
  if (number == 0) return {};
  const Place& place = chains_[number - 1];
  return {*this, place.begin, place.size};
}

std::size_t LineStore::bytes() const noexcept {
  return texts_.size() + frames_.size() * sizeof(Frame) + chains_.size() * sizeof(Place) +
         text_index_.bytes() + chain_index_.bytes();
}

std::uint32_t LineStore::keep_text(std::string_view text) {
  if (text.empty() || text.size() > line_wire::kMaxText) return 0;
  const std::uint64_t hash = encoder::hash_bytes(text);
  const std::uint32_t known =
      text_index_.find(hash, [&](std::uint32_t place) { return this->text(place) == text; });
  if (known != PositionIndex::kNone) return known;
  text_index_.reserve([&](std::uint32_t place) { return encoder::hash_bytes(this->text(place)); });
  const auto length = static_cast<Length>(text.size());
  char* const bytes = texts_.add(sizeof(Length) + text.size());
  std::memcpy(bytes, &length, sizeof(Length));
  std::memcpy(bytes + sizeof(Length), text.data(), text.size());
  const auto place = static_cast<std::uint32_t>(texts_.size() - text.size());
  text_index_.insert(hash, place);
  return place;
}

std::string_view LineStore::text(std::uint32_t place) const noexcept {
  if (place == 0) return {};
  const char* const bytes = &texts_[place];
  Length length = 0;
  std::memcpy(&length, bytes - sizeof(Length), sizeof(Length));
  return {bytes, length};
}

std::uint64_t LineStore::hash_of(const Place& chain) const noexcept {
  std::uint64_t hash = chain.size;
  for (std::uint32_t i = chain.begin; i < chain.begin + chain.size; ++i) {
    const Frame& frame = frames_[i];
    hash = encoder::hash_mix(hash, std::uint64_t{frame.function} << 32U | frame.file);
    hash = encoder::hash_mix(hash, frame.line);
  }
  return hash;
}

bool LineStore::are_equal(const Place& one, const Place& other) const noexcept {
  if (one.size != other.size) return false;
  for (std::uint32_t i = 0; i < one.size; ++i)
    if (frames_[one.begin + i] != frames_[other.begin + i]) return false;
  return true;
}

}  // namespace profagent::service
