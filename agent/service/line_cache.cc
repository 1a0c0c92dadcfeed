#include "agent/service/line_cache.h"

#include <cstring>
#include <utility>

namespace profagent::service {

namespace {

// What the containers need for an element, with the block around it.
constexpr std::size_t kElementBytes = 64;

// Of texts that are kept once, so their places stand for them.
std::size_t hash_of(const LineChain& chain) noexcept {
  constexpr std::size_t kFactor = 0x9e3779b97f4a7c15;
  std::size_t hash = chain.size();
  for (const SourceLine& line : chain) {
    for (const std::size_t word :
         {reinterpret_cast<std::size_t>(line.function.data()),
          reinterpret_cast<std::size_t>(line.file.data()), static_cast<std::size_t>(line.line)}) {
      hash = (hash ^ word) * kFactor;
      hash ^= hash >> 32;
    }
  }
  return hash;
}

}  // namespace

std::string_view LineCache::Texts::keep(std::string_view text, std::size_t& bytes) {
  if (text.empty()) return {};
  if (const auto known = known_.find(text); known != known_.end()) return *known;
  bytes += text.size() + kElementBytes;
  char* place = nullptr;
  if (text.size() > kBlockBytes / 4) {
    // A block of its own, before the one that is being filled.
    auto own = std::make_unique<char[]>(text.size());
    place = own.get();
    blocks_.insert(blocks_.begin(), std::move(own));
  } else {
    if (left_ < text.size()) {
      blocks_.push_back(std::make_unique<char[]>(kBlockBytes));
      left_ = kBlockBytes;
    }
    place = blocks_.back().get() + (kBlockBytes - left_);
    left_ -= text.size();
  }
  std::memcpy(place, text.data(), text.size());
  return *known_.emplace(place, text.size()).first;
}

bool LineCache::add(ImageLines& image, std::uint64_t address, const line_wire::Chain& chain) {
  // What comes with one packet is small against it.
  if (bytes_ > kMostBytes) return false;
  const auto [entry, is_new] = image.by_address.try_emplace(address);
  if (is_new) bytes_ += kElementBytes;
  if (chain.empty()) return true;
  if (texts_ == nullptr) texts_ = std::make_shared<Texts>();
  auto kept = std::make_shared<KeptChain>();
  kept->texts = texts_;
  kept->chain.reserve(chain.size());
  for (const line_wire::Frame& frame : chain) {
    kept->chain.push_back({.function = texts_->keep(frame.function, bytes_),
                           .file = texts_->keep(frame.file, bytes_),
                           .line = frame.line});
  }
  auto& equal = by_hash_[hash_of(kept->chain)];
  if (equal == nullptr || *equal != kept->chain) {
    bytes_ += 2 * kElementBytes + sizeof(KeptChain) + kept->chain.size() * sizeof(SourceLine);
    const LineChain* const lines = &kept->chain;
    equal = std::shared_ptr<const LineChain>(std::move(kept), lines);
  }
  entry->second = equal;
  return true;
}

void LineCache::clear() noexcept {
  images_.clear();
  // Not clear(), which keeps the table.
  decltype(by_hash_)().swap(by_hash_);
  texts_.reset();
  bytes_ = 0;
}

}  // namespace profagent::service
