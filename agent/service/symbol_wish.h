// How much a request wants to know of its frames, and in which style: `?symbols=` (else PROFAGENT_SYMBOLS),
// and `?demangle=`.
#pragma once

#include <cstdint>
#include <memory>

#include "agent/service/demangle.h"

namespace profagent::service {

class Query;
struct LinePatience;

enum class SymbolDetail : std::uint8_t {
  kNone,   // no file is read: frames are named by their module
  kNames,  // from symbol tables
  kLines,  // and from DWARF: inlined functions, files, lines
};

// PROFAGENT_SYMBOLS.
[[nodiscard]] SymbolDetail usual_symbol_detail() noexcept;

struct SymbolWish {
  SymbolDetail detail = SymbolDetail::kNames;
  DemangleStyle style = DemangleStyle::kDefault;
  std::shared_ptr<LinePatience> patience = {};  // of the request; null: of each profile by itself
};

// Throws BadRequest.
[[nodiscard]] SymbolWish parse_symbol_wish(const Query& query);

// Of pages that show names alone.
[[nodiscard]] SymbolWish names_only() noexcept;

}  // namespace profagent::service
