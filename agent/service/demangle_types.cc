#include <algorithm>
#include <array>
#include <utility>

#include "agent/service/demangle_parser.h"

namespace profagent::service {

namespace {

// Indexed by letter; empty where a letter is no builtin type.
constexpr std::array<std::string_view, 26> kBuiltins = {
    "signed char",         // a
    "bool",                // b
    "char",                // c
    "double",              // d
    "long double",         // e
    "float",               // f
    "__float128",          // g
    "unsigned char",       // h
    "int",                 // i
    "unsigned int",        // j
    "",                    // k
    "long",                // l
    "unsigned long",       // m
    "__int128",            // n
    "unsigned __int128",   // o
    "",                    // p
    "",                    // q
    "",                    // r
    "short",               // s
    "unsigned short",      // t
    "",                    // u
    "void",                // v
    "wchar_t",             // w
    "long long",           // x
    "unsigned long long",  // y
    "...",                 // z
};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

}  // namespace

std::string DemangledType::text() const {
  // The declarator's place needs a blank in front of a parameter list, not of an array's own one.
  return shape == Shape::kFunction ? left + " " + right : left + right;
}

DemangledType DemangleParser::type() {
  const Level level(*this);
  bool is_candidate = true;
  Type result = type_without_remembering(is_candidate);
  charge(result.left.size() + result.right.size());
  if (is_candidate) remember(result);
  return result;
}

DemangledType DemangleParser::type_without_remembering(bool& remember_it) {
  switch (const char c = peek()) {
    case 'r':
    case 'V':
    case 'K': {
      std::string qualifiers;
      // In this order; the text has the opposite one.
      if (take('r')) qualifiers = " restrict";
      if (take('V')) qualifiers = " volatile" + qualifiers;
      if (take('K')) qualifiers = " const" + qualifiers;
      if (peek() == 'F' ||
          (peek() == 'D' && (peek(1) == 'o' || peek(1) == 'O' || peek(1) == 'w' || peek(1) == 'x'))) {
        Type function = function_type();
        function.right += qualifiers;
        return function;
      }
      Type inner = type();
      if (inner.shape == Type::Shape::kFunction) {
        inner.right += qualifiers;
      } else {
        inner.left += qualifiers;
      }
      return inner;
    }
    case 'P':
      next();
      return pointer_to(type(), "*");
    case 'R':
      next();
      return pointer_to(type(), "&");
    case 'O':
      next();
      return pointer_to(type(), "&&");
    case 'C':
    case 'G': {
      next();
      Type inner = type();
      inner.left += c == 'C' ? " _Complex" : " _Imaginary";
      return inner;
    }
    case 'F':
      return function_type();
    case 'A':
      return array_type();
    case 'M':
      return member_pointer();
    case 'D':
      return d_type(remember_it);
    case 'U':
      if (peek(1) == 'l' || peek(1) == 't') return named_type(remember_it);
      return vendor_qualified();
    case 'T': {
      if (peek(1) == 's' || peek(1) == 'u' || peek(1) == 'e') {
        next();
        next();
        return named_type(remember_it);
      }
      Type parameter = template_param();
      // In `operator T*<int>` the arguments are the operator's.
      if (peek() == 'I' && !in_conversion_) {
        remember(parameter);
        template_args(false);
      }
      return parameter;
    }
    case 'u': {
      next();
      Type vendor{.left = source_name()};
      if (peek() == 'I') template_args(false);
      return vendor;
    }
    default:
      if (c >= 'a' && c <= 'z') {
        const std::string_view builtin = kBuiltins[static_cast<std::size_t>(c - 'a')];
        if (builtin.empty()) throw NotMangled();
        next();
        remember_it = false;
        return {.left = std::string(builtin)};
      }
      return named_type(remember_it);
  }
}

DemangledType DemangleParser::named_type(bool& remember_it) {
  if (peek() == 'S' && peek(1) != 't') {
    Type result = substitution(false);
    remember_it = false;
    if (peek() == 'I') {
      template_args(false);
      remember_it = true;
    }
    return result;
  }
  NameTraits traits;
  return {.left = name(traits)};
}

DemangledType DemangleParser::pointer_to(Type inner, std::string_view mark) {
  if (inner.shape == Type::Shape::kPlain) {
    // References to references collapse, as they do in the language.
    const bool reference = mark.front() == '&';
    if (reference && inner.left.ends_with('&') && inner.right.empty()) {
      if (mark.size() == 1 && inner.left.ends_with("&&")) inner.left.pop_back();
      return inner;
    }
    inner.left += mark;
    return inner;
  }
  const bool array = inner.shape == Type::Shape::kArray;
  inner.left.append(" (").append(mark);
  inner.right.insert(0, array && !inner.right.starts_with(' ') ? ") " : ")");
  inner.shape = Type::Shape::kPlain;
  return inner;
}

DemangledType DemangleParser::function_type() {
  if (take("Do")) {
  } else if (take("DO")) {
    expression();
    expect('E');
  } else if (take("Dw")) {
    type_list('E');
  } else {
    take("Dx");
  }
  expect('F');
  take('Y');  // extern "C"
  Type result = type();
  std::string list;
  std::string_view reference;
  while (!take('E')) {
    if (peek() == 'v') {
      next();
      continue;
    }
    if ((peek() == 'R' || peek() == 'O') && peek(1) == 'E') {
      reference = next() == 'R' ? " &" : " &&";
      continue;
    }
    const Type parameter = type();
    if (parameter.pack && parameter.pack_size == 0) continue;
    if (!list.empty()) list += ", ";
    list += parameter.text();
  }
  if (result.shape != Type::Shape::kPlain) result.left += " ";
  result.right = "(" + list + ")" + std::string(reference) + result.right;
  result.shape = Type::Shape::kFunction;
  return result;
}

DemangledType DemangleParser::array_type() {
  expect('A');
  std::string bound;
  if (is_digit(peek())) {
    bound = std::to_string(number());
  } else if (peek() != '_') {
    const std::string_view before = rest_;
    expression();
    bound = std::string(before.substr(0, before.size() - rest_.size()));
  }
  expect('_');
  Type result = type();
  result.right = (result.shape == Type::Shape::kArray ? "[" : " [") + bound + "]" +
                 (result.right.starts_with(' ') ? result.right.substr(1) : result.right);
  if (!result.right.starts_with(' ')) result.right.insert(0, " ");
  result.shape = Type::Shape::kArray;
  return result;
}

DemangledType DemangleParser::member_pointer() {
  expect('M');
  const std::string owner = type().text();
  Type member = type();
  if (member.shape == Type::Shape::kPlain) {
    member.left += " " + owner + "::*";
    return member;
  }
  return pointer_to(std::move(member), owner + "::*");
}

DemangledType DemangleParser::d_type(bool& remember_it) {
  static constexpr std::array<std::pair<char, std::string_view>, 10> kBuiltinD = {{{'a', "auto"},
                                                                                   {'c', "decltype(auto)"},
                                                                                   {'d', "decimal64"},
                                                                                   {'e', "decimal128"},
                                                                                   {'f', "decimal32"},
                                                                                   {'h', "half"},
                                                                                   {'i', "char32_t"},
                                                                                   {'n', "decltype(nullptr)"},
                                                                                   {'s', "char16_t"},
                                                                                   {'u', "char8_t"}}};
  const char kind = peek(1);
  for (const auto& [letter, text] : kBuiltinD) {
    if (letter != kind) continue;
    next();
    next();
    remember_it = false;
    return {.left = std::string(text)};
  }
  switch (kind) {
    case 'o':
    case 'O':
    case 'w':
    case 'x':
      return function_type();
    case 'p': {
      next();
      next();
      Type pattern = type();
      if (lambda_depth_ > 0) pattern = {.left = "(" + pattern.text() + ")..."};
      return pattern;
    }
    case 't':
    case 'T':
      next();
      next();
      expression();
      expect('E');
      return {.left = "decltype(...)"};
    case 'v': {
      next();
      next();
      if (is_digit(peek())) {
        number();
      } else if (peek() != '_') {
        expression();
      }
      expect('_');
      if (take('p')) return {.left = "__vector(pixel)"};
      Type element = type();
      element.left = element.text() + " __vector";
      element.right.clear();
      return element;
    }
    case 'F': {
      next();
      next();
      const std::size_t bits = number();
      remember_it = false;
      if (take('b')) return {.left = "std::bfloat" + std::to_string(bits) + "_t"};
      const bool extended = take('x');
      take('_');
      return {.left = "_Float" + std::to_string(bits) + (extended ? "x" : "")};
    }
    case 'B':
    case 'U': {
      next();
      next();
      std::string bits;
      if (is_digit(peek())) {
        bits = std::to_string(number());
      } else {
        expression();
      }
      expect('_');
      return {.left = (kind == 'U' ? "unsigned _BitInt(" : "_BitInt(") + bits + ")"};
    }
    case 'k':
    case 'K': {
      next();
      next();
      NameTraits traits;
      name(traits);
      return {.left = kind == 'k' ? "auto" : "decltype(auto)"};
    }
    default:
      throw NotMangled();
  }
}

DemangledType DemangleParser::vendor_qualified() {
  expect('U');
  const std::string qualifier = source_name();
  if (peek() == 'I') template_args(false);
  Type inner = type();
  inner.left += " " + qualifier;
  return inner;
}

DemangledType DemangleParser::template_param() {
  expect('T');
  if (take('L')) {
    number();
    expect('_');
  }
  const std::size_t index = peek() == '_' ? 0 : number() + 1;
  expect('_');
  // The parameters of a generic lambda have no arguments.
  if (lambda_depth_ > 0) return {.left = "auto:" + std::to_string(index + 1)};
  if (index < template_args_.size() && !in_conversion_) {
    Type argument = template_args_[index];
    argument.parameter = static_cast<int>(index);
    return argument;
  }
  // Its argument comes later, see fill_forward_references().
  if (index >= 250) return {.left = "auto"};
  return {.left = {'\1', static_cast<char>(index + 1)}};
}

DemangledType DemangleParser::substitution(bool in_prefix) {
  struct Standard {
    char letter;
    std::string_view name;
    std::string_view full;
    std::string_view component;
  };
  static constexpr std::array<Standard, 7> kStandard = {{
      {'t', "std", "std", ""},
      {'a', "std::allocator", "std::allocator", "allocator"},
      {'b', "std::basic_string", "std::basic_string", "basic_string"},
      {'s', "std::string", "std::basic_string", "basic_string"},
      {'i', "std::istream", "std::basic_istream", "basic_istream"},
      {'o', "std::ostream", "std::basic_ostream", "basic_ostream"},
      {'d', "std::iostream", "std::basic_iostream", "basic_iostream"},
  }};
  expect('S');
  for (const Standard& standard : kStandard) {
    if (!take(standard.letter)) continue;
    last_component_ = standard.component;
    const bool full = in_prefix && (peek() == 'C' || peek() == 'D');
    Type result{.left = std::string(full ? standard.full : standard.name)};
    if (const std::string tags = abi_tags(); !tags.empty()) {
      result.left += tags;
      remember(result);
    }
    return result;
  }
  const std::size_t index = peek() == '_' ? 0 : sequence_number() + 1;
  expect('_');
  if (index >= substitutions_.size()) throw NotMangled();
  Type result = substitutions_[index];
  // A parameter of the function that is a parameter again, but of the lambda.
  if (result.parameter >= 0 && lambda_depth_ > 0)
    result = {.left = "auto:" + std::to_string(result.parameter + 1)};
  // The last component, for a constructor that follows.
  const std::size_t colons = result.left.rfind("::");
  last_component_ = colons == std::string::npos ? result.left : result.left.substr(colons + 2);
  if (const std::size_t tag = last_component_.find("[abi:"); tag != std::string::npos)
    last_component_.resize(tag);
  return result;
}

// Types up to `end`, which is taken: "int, char".
std::string DemangleParser::type_list(char end) {
  std::string list;
  while (!take(end)) {
    if (peek() == 'v' && peek(1) == end) {
      next();
      continue;
    }
    const Type each = type();
    if (each.pack && each.pack_size == 0) continue;
    if (!list.empty()) list += ", ";
    list += each.text();
  }
  return list;
}

void DemangleParser::template_args(bool collect) {
  const Level level(*this);
  expect('I');
  const std::string component = last_component_;
  const bool conversion = std::exchange(in_conversion_, false);
  // T_ inside of these arguments still means those of before, unless they belong to the same name.
  if (collect) template_args_.clear();
  std::vector<Type> args;
  while (!take('E')) {
    if (take('Q')) {
      expression();
      continue;
    }
    Type argument = template_arg();
    if (collect) template_args_.push_back(std::move(argument));
  }
  last_component_ = component;
  in_conversion_ = conversion;
}

DemangledType DemangleParser::template_arg() {
  const Level level(*this);
  switch (peek()) {
    case 'X':
      next();
      expression();
      expect('E');
      return {.left = "..."};
    case 'L': {
      expression_primary();
      return {.left = "..."};
    }
    case 'I':  // as GCC wrote packs before 4.7
    case 'J': {
      next();
      Type pack{.left = "", .pack = true};
      while (!take('E')) {
        const Type each = template_arg();
        if (pack.pack_size++ > 0) pack.left += ", ";
        pack.left += each.text();
      }
      charge(pack.left.size());
      return pack;
    }
    case 'T':
      if (peek(1) == 'y' || peek(1) == 'n' || peek(1) == 't' || peek(1) == 'p' || peek(1) == 'k') {
        template_param_declaration();
        return template_arg();
      }
      return type();
    default:
      return type();
  }
}

bool DemangleParser::template_param_declaration() {
  const Level level(*this);
  if (peek() != 'T') return false;
  switch (peek(1)) {
    case 'y':
      rest_.remove_prefix(2);
      return true;
    case 'k': {
      rest_.remove_prefix(2);
      NameTraits traits;
      name(traits);
      return true;
    }
    case 'n':
      rest_.remove_prefix(2);
      type();
      return true;
    case 't':
      rest_.remove_prefix(2);
      while (template_param_declaration()) {
      }
      expect('E');
      return true;
    case 'p':
      rest_.remove_prefix(2);
      return template_param_declaration();
    default:
      return false;
  }
}

}  // namespace profagent::service
