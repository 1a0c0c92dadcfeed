// Each distinct string once, as pprof's string_table wants it: StringId 0 is "", every string is valid UTF-8
// of at most kMaxStringBytes. Nothing is ever removed; text() stays valid for the table's life, moves
// included.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "encoder/hash_index.h"
#include "encoder/pool.h"

namespace profagent::encoder {

enum class StringId : std::uint32_t {};
inline constexpr StringId kEmptyString{0};

class StringTable {
 public:
  StringTable();

  // Invalid UTF-8 is escaped and long text cut (see to_utf8), so two inputs may get one id.
  StringId intern(std::string_view text);
  // The same without a copy, but of what has to be cleaned: `text` stays where it is for the table's life,
  // moves included.
  StringId intern_lent(std::string_view text);

  [[nodiscard]] std::string_view text(StringId id) const { return strings_[static_cast<std::size_t>(id)]; }
  [[nodiscard]] std::size_t size() const { return strings_.size(); }

 private:
  [[nodiscard]] std::uint32_t find(std::string_view text, std::uint64_t hash) const;
  StringId intern(std::string_view text, bool is_lent);
  StringId insert(std::string_view kept, std::uint64_t hash);
  [[nodiscard]] std::string_view copy(std::string_view text);

  Pool pool_;
  std::vector<std::string_view> strings_;
  HashIndex index_;
};

}  // namespace profagent::encoder
