#include "encoder/string_table.h"

#include <span>
#include <string>

#include "encoder/utf8.h"

namespace profagent::encoder {

StringTable::StringTable() {
  insert({}, hash_bytes({}));
}

StringId StringTable::intern(std::string_view text) {
  return intern(text, false);
}

StringId StringTable::intern_lent(std::string_view text) {
  return intern(text, true);
}

StringId StringTable::intern(std::string_view text, bool is_lent) {
  const std::uint64_t hash = hash_bytes(text);
  // What is stored is clean, so a hit needs no check: names are interned far more often than they are new.
  if (const std::uint32_t found = find(text, hash); found != HashIndex::kNone) return StringId{found};
  if (text.size() <= kMaxStringBytes && is_utf8(text)) return insert(is_lent ? text : copy(text), hash);
  const std::string clean = to_utf8(text);
  const std::uint64_t clean_hash = hash_bytes(clean);
  if (const std::uint32_t found = find(clean, clean_hash); found != HashIndex::kNone) return StringId{found};
  return insert(copy(clean), clean_hash);
}

std::uint32_t StringTable::find(std::string_view text, std::uint64_t hash) const {
  return index_.find(hash, [&](std::uint32_t position) { return strings_[position] == text; });
}

std::string_view StringTable::copy(std::string_view text) {
  const std::span<const char> kept = pool_.copy(std::span<const char>(text));
  return {kept.data(), kept.size()};
}

StringId StringTable::insert(std::string_view kept, std::uint64_t hash) {
  const std::size_t position = strings_.size();
  strings_.push_back(kept);
  index_.insert(hash, position);
  return StringId{static_cast<std::uint32_t>(position)};
}

}  // namespace profagent::encoder
