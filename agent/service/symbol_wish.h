// How much a request wants to know of its frames, and in which style: `?symbols=`, else PROFAGENT_SYMBOLS,
// and
// `?demangle=`. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "agent/service/demangle.h"

namespace profagent::service {

class Query;

enum class SymbolDetail : std::uint8_t {
  kNone,   // no file is read: frames are named by their module
  kNames,  // from symbol tables
  kLines,  // and from DWARF: inlined functions, files, lines
};

// The word of the setting and of the parameter; nullopt: there is no such word.
[[nodiscard]] std::optional<SymbolDetail> parse_symbol_detail(std::string_view word) noexcept;

// PROFAGENT_SYMBOLS.
[[nodiscard]] SymbolDetail usual_symbol_detail() noexcept;

struct SymbolWish {
  SymbolDetail detail = SymbolDetail::kNames;
  DemangleStyle style = DemangleStyle::kDefault;
};

// Throws BadRequest.
[[nodiscard]] SymbolWish parse_symbol_wish(const Query& query);

// Of pages that show names alone.
[[nodiscard]] SymbolWish names_only() noexcept;

}  // namespace profagent::service
