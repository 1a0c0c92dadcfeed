// Expressions stand in template arguments, decltype and array bounds. Nothing of them is shown, but their end
// has to be found.
#include <algorithm>
#include <array>

#include "agent/service/demangle_parser.h"

namespace profagent::service {

namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

}  // namespace

void DemangleParser::expression() {
  const Level level(*this);
  switch (peek()) {
    case 'L':
      expression_primary();
      return;
    case 'T':
      template_param();
      return;
    case 'X':
      // Older compilers wrap arguments once more.
      next();
      expression();
      expect('E');
      return;
    case 'u':
      next();
      source_name();
      while (!take('E')) template_arg();
      return;
    default:
      break;
  }
  if (is_digit(peek())) {
    unresolved_name();
    return;
  }
  if (take("gs")) {
    // ::new, ::delete, or a name in the global namespace
  }
  if (rest_.size() < 2) throw NotMangled();
  const std::string_view code = rest_.substr(0, 2);
  if (code == "sr" || code == "on" || code == "dn" || is_digit(code[0])) {
    unresolved_name();
    return;
  }
  rest_.remove_prefix(2);
  expression_after(code);
}

void DemangleParser::expression_after(std::string_view code) {
  const auto is = [code](auto... candidates) { return ((code == candidates) || ...); };
  if (is("cl", "cp", "il", "sP")) return expressions_until('E');
  if (is("tl")) {
    type();
    return expressions_until('E');
  }
  if (is("cv")) {
    type();
    if (take('_')) return expressions_until('E');
    return expression();
  }
  if (is("dc", "sc", "cc", "rc")) {
    type();
    return expression();
  }
  if (is("ti", "st", "at")) {
    type();
    return;
  }
  if (is("az")) return expression();
  if (is("dt", "pt")) {
    expression();
    // After -> too there can be an expression: GCC writes operator names without "on".
    if (is_digit(peek()) || rest_.starts_with("sr") || rest_.starts_with("on") || rest_.starts_with("dn") ||
        rest_.starts_with("gs")) {
      return unresolved_name();
    }
    return expression();
  }
  if (is("fp") || (is("fL") && is_digit(peek()))) {
    if (code[1] == 'L') {
      number();
      expect('p');
    }
    return function_param();
  }
  if (is("fl", "fr")) return fold(false);
  if (is("fL", "fR")) return fold(true);
  if (is("nw", "na")) return new_expression();
  if (is("sZ")) return expression();
  if (is("tr")) return;
  if (is("so")) {
    type();
    expression();
    take('n');
    if (is_digit(peek())) number();
    while (take('_')) {
      take('n');
      if (is_digit(peek())) number();
    }
    take('p');
    return expect('E');
  }
  if (is("rq", "rQ")) return requires_expression(code[1] == 'Q');
  if (is("di")) {
    source_name();
    return expression();
  }
  if (is("pp", "mm")) {
    take('_');  // in front of the operand
    return expression();
  }
  const OperatorCode* const found = find_operator(code);
  if (found == nullptr || found->operands == 0) throw NotMangled();
  for (int i = 0; i < found->operands; ++i) expression();
}

void DemangleParser::expressions_until(char end) {
  while (!take(end)) expression();
}

void DemangleParser::expression_primary() {
  const Level level(*this);
  expect('L');
  if (take("_Z") || take('Z')) {
    encoding(Parameters::kEmpty);
    return expect('E');
  }
  if (peek() == 'A' || peek() == 'U') {
    // A string, or a lambda: only their types are written.
    type();
    if (take('E')) return;
  } else {
    type();
  }
  // A number, or the bits of a floating-point value, one or (complex) two.
  while (peek() == 'n' || peek() == '_' || is_digit(peek()) || (peek() >= 'a' && peek() <= 'f')) next();
  expect('E');
}

void DemangleParser::function_param() {
  if (take('T')) return;  // this
  while (peek() == 'r' || peek() == 'V' || peek() == 'K') next();
  if (is_digit(peek())) number();
  expect('_');
}

void DemangleParser::fold(bool two_operands) {
  if (rest_.size() < 2) throw NotMangled();
  rest_.remove_prefix(2);
  expression();
  if (two_operands) expression();
}

void DemangleParser::new_expression() {
  expressions_until('_');
  type();
  if (take('E')) return;
  if (take("pi")) return expressions_until('E');
  if (take("il")) {
    expressions_until('E');
    return expect('E');
  }
  throw NotMangled();
}

void DemangleParser::requires_expression(bool with_parameters) {
  if (with_parameters) {
    while (!take('_')) type();
  }
  while (!take('E')) {
    if (take('X')) {
      expression();
      take('N');
      if (take('R')) {
        NameTraits traits;
        name(traits);
      }
    } else if (take('T')) {
      type();
    } else if (take('Q')) {
      expression();
    } else {
      throw NotMangled();
    }
  }
}

void DemangleParser::unresolved_name() {
  const Level level(*this);
  take("gs");
  if (take("sr")) return qualified_unresolved();
  base_unresolved_name();
}

void DemangleParser::qualified_unresolved() {
  if (take('N')) {
    type();
    while (!take('E')) simple_id();
    return base_unresolved_name();
  }
  if (is_digit(peek())) {
    // Either names up to an E, as the ABI has it, or a type, as GCC writes it. Only trying tells.
    const std::string_view before = rest_;
    const std::size_t known = substitutions_.size();
    try {
      while (!take('E')) simple_id();
      return base_unresolved_name();
    } catch (const NotMangled&) {
      rest_ = before;
      substitutions_.resize(known);
    }
  }
  type();
  base_unresolved_name();
}

void DemangleParser::base_unresolved_name() {
  if (take("dn")) {
    if (is_digit(peek())) return simple_id();
    type();
    return;
  }
  if (is_digit(peek())) return simple_id();
  take("on");
  NameTraits traits;
  operator_name(traits);
  if (peek() == 'I') template_args(false);
}

void DemangleParser::simple_id() {
  source_name();
  abi_tags();
  if (peek() == 'I') template_args(false);
}

}  // namespace profagent::service
