#include "agent/service/line_cache.h"

#include "encoder/hash_index.h"

namespace profagent::service {

namespace {

std::uint64_t hash_of(std::uint32_t image, std::uint64_t address) noexcept {
  return encoder::hash_mix(image, address);
}

}  // namespace

ImageLines& LineCache::of(const std::string& identity) {
  const auto [entry, is_new] = images_.try_emplace(identity);
  if (is_new) entry->second.number = static_cast<std::uint32_t>(images_.size());
  return entry->second;
}

bool LineCache::add(const ImageLines& image, std::uint64_t address, const line_wire::Chain& chain) {
  // What comes with one packet is small against it.
  if (bytes() > kMostBytes) return false;
  if (position_of(image, address) != PositionIndex::kNone) return true;
  if (store_ == nullptr) store_ = std::make_shared<LineStore>();
  index_.reserve([&](std::uint32_t position) {
    const Known& known = known_[position - 1];
    return hash_of(known.image, known.address);
  });
  known_.push_back({.address = address, .image = image.number, .chain = store_->keep(chain)});
  index_.insert(hash_of(image.number, address), static_cast<std::uint32_t>(known_.size()));
  return true;
}

std::optional<LineChain> LineCache::find(const ImageLines& image, std::uint64_t address) const {
  const std::uint32_t position = position_of(image, address);
  if (position == PositionIndex::kNone) return std::nullopt;
  return store_->chain(known_[position - 1].chain);
}

std::uint32_t LineCache::position_of(const ImageLines& image, std::uint64_t address) const noexcept {
  return index_.find(hash_of(image.number, address), [&](std::uint32_t position) {
    const Known& known = known_[position - 1];
    return known.address == address && known.image == image.number;
  });
}

std::size_t LineCache::bytes() const noexcept {
  return known_.size() * sizeof(Known) + index_.bytes() + (store_ == nullptr ? 0 : store_->bytes());
}

void LineCache::clear() noexcept {
  images_.clear();
  known_ = {};
  index_ = {};
  store_.reset();
}

}  // namespace profagent::service
