#include "agent/service/symbol_wish.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string_view>

#include "agent/safe/settings.h"
#include "agent/service/query.h"
#include "agent/service/routes.h"
#include "agent/service/source_lines.h"

namespace profagent::service {

namespace {

std::optional<DemangleStyle> parse_style(std::string_view word) noexcept {
  if (word == "templates") return DemangleStyle::kTemplates;
  if (word == "full") return DemangleStyle::kFull;
  if (word == "none") return DemangleStyle::kNone;
  return std::nullopt;
}

// The words of the setting and of the parameter.
std::optional<SymbolDetail> parse_detail(std::string_view word) noexcept {
  if (word == "none") return SymbolDetail::kNone;
  if (word == "names") return SymbolDetail::kNames;
  if (word == "lines") return SymbolDetail::kLines;
  return std::nullopt;
}

}  // namespace

SymbolDetail usual_symbol_detail() noexcept {
  const std::int64_t position = safe::settings.symbols.load(std::memory_order_relaxed);
  return parse_detail(safe::choice_at(safe::choices_of("symbols"), position)).value_or(SymbolDetail::kLines);
}

SymbolWish parse_symbol_wish(const Query& query) {
  SymbolWish wish{.detail = usual_symbol_detail(), .patience = std::make_shared<LinePatience>()};
  if (const std::string_view word = query.get("symbols"); !word.empty()) {
    const auto detail = parse_detail(word);
    if (!detail) {
      throw BadRequest("invalid value for \"symbols\" - must be \"none\", \"names\" or \"lines\"");
    }
    wish.detail = *detail;
  }
  if (const std::string_view word = query.get("demangle"); !word.empty()) {
    const auto style = parse_style(word);
    if (!style) {
      throw BadRequest("invalid value for \"demangle\" - must be \"templates\", \"full\" or \"none\"");
    }
    wish.style = *style;
  }
  return wish;
}

SymbolWish names_only() noexcept {
  return {.detail = std::min(usual_symbol_detail(), SymbolDetail::kNames)};
}

}  // namespace profagent::service
