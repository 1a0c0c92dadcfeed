#include <algorithm>
#include <array>
#include <utility>

#include "agent/service/demangle_parser.h"

namespace profagent::service {

namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

constexpr std::array<OperatorCode, 58> kOperators{{
    {"aN", "&=", 2},         {"aS", "=", 2},   {"aa", "&&", 2},      {"ad", "&", 1},        {"an", "&", 2},
    {"aw", " co_await ", 1}, {"cl", "()", 0},  {"cm", ",", 2},       {"co", "~", 1},        {"dV", "/=", 2},
    {"da", " delete[]", 1},  {"de", "*", 1},   {"dl", " delete", 1}, {"ds", ".*", 2},       {"dv", "/", 2},
    {"eO", "^=", 2},         {"eo", "^", 2},   {"eq", "==", 2},      {"ge", ">=", 2},       {"gt", ">", 2},
    {"ix", "[]", 2},         {"lS", "<<=", 2}, {"le", "<=", 2},      {"ls", "<<", 2},       {"lt", "<", 2},
    {"mI", "-=", 2},         {"mL", "*=", 2},  {"mi", "-", 2},       {"ml", "*", 2},        {"mm", "--", 1},
    {"na", " new[]", 0},     {"ne", "!=", 2},  {"ng", "-", 1},       {"nt", "!", 1},        {"nw", " new", 0},
    {"oR", "|=", 2},         {"oo", "||", 2},  {"or", "|", 2},       {"pL", "+=", 2},       {"pl", "+", 2},
    {"pm", "->*", 2},        {"pp", "++", 1},  {"ps", "+", 1},       {"pt", "->", 0},       {"qu", "?", 3},
    {"rM", "%=", 2},         {"rS", ">>=", 2}, {"rm", "%", 2},       {"rs", ">>", 2},       {"ss", "<=>", 2},
    {"dX", "", 3},           {"di", "", 2},    {"dx", "", 2},        {"nx", "noexcept", 1}, {"sp", "", 1},
    {"sz", "", 1},           {"te", "", 1},    {"tw", "throw ", 1},
}};
// Codes behind the names of operators are only found in expressions.
constexpr std::size_t kNameable = 50;

bool is_nameable(const OperatorCode& code) {
  return &code < kOperators.data() + kNameable;
}

}  // namespace

const OperatorCode* find_operator(std::string_view text) {
  const auto found =
      std::find_if(kOperators.begin(), kOperators.end(),
                   [text](const OperatorCode& candidate) { return text.starts_with(candidate.code); });
  return found == kOperators.end() ? nullptr : &*found;
}

std::string DemangleParser::encoding(Parameters wanted) {
  const Level level(*this);
  if (peek() == 'G' || peek() == 'T') return special_name();

  std::vector<Type> outer_args = std::move(template_args_);
  template_args_.clear();
  NameTraits traits{.collect = true};
  std::string result = fill_forward_references(name(traits));
  if (wanted != Parameters::kIgnore && !at_end_of_list()) result += parameters(traits, wanted);
  template_args_ = std::move(outer_args);
  return result;
}

std::string DemangleParser::parameters(const NameTraits& traits, Parameters wanted) {
  if (take("Ua9enable_if")) template_args(false);
  if (traits.template_args && !traits.no_return_type) type();
  std::string list;
  while (!at_end_of_list() && peek() != 'Q') {
    if (take('v')) continue;
    const Type each = type();
    if (wanted == Parameters::kEmpty || (each.pack && each.pack_size == 0)) continue;
    if (!list.empty()) list += ", ";
    list += each.text();
  }
  if (take('Q')) expression();
  return "(" + list + ")" + traits.qualifiers;
}

// A conversion operator can name its target by template arguments that follow it: T_ left a mark.
std::string DemangleParser::fill_forward_references(std::string text) const {
  for (std::size_t at = text.find('\1'); at != std::string::npos; at = text.find('\1', at)) {
    const std::size_t index = static_cast<unsigned char>(text[at + 1]) - 1U;
    const std::string value = index < template_args_.size() ? template_args_[index].text() : "auto";
    text.replace(at, 2, value);
    at += value.size();
  }
  return text;
}

std::string DemangleParser::special_name() {
  const char family = next();
  const char kind = next();
  if (family == 'T') {
    switch (kind) {
      case 'V':
        return "vtable for " + type().text();
      case 'T':
        return "VTT for " + type().text();
      case 'I':
        return "typeinfo for " + type().text();
      case 'S':
        return "typeinfo name for " + type().text();
      case 'A':
        return "template parameter object for " + template_arg().text();
      case 'h':
      case 'v': {
        rest_ = std::string_view(rest_.data() - 1, rest_.size() + 1);
        call_offset();
        const std::string target = encoding(Parameters::kShow);
        return (kind == 'h' ? "non-virtual thunk to " : "virtual thunk to ") + target;
      }
      case 'c':
        call_offset();
        call_offset();
        return "covariant return thunk to " + encoding(Parameters::kShow);
      case 'C': {
        std::string derived = type().text();
        number();
        expect('_');
        return "construction vtable for " + type().text() + "-in-" + derived;
      }
      case 'H': {
        NameTraits traits;
        return "TLS init function for " + name(traits);
      }
      case 'W': {
        NameTraits traits;
        return "TLS wrapper function for " + name(traits);
      }
      default:
        throw NotMangled();
    }
  }
  switch (kind) {
    case 'V': {
      NameTraits traits;
      return "guard variable for " + name(traits);
    }
    case 'R': {
      NameTraits traits;
      std::string target = name(traits);
      return "reference temporary #" + std::to_string(sequence_number()) + " for " + target;
    }
    case 'A':
      return "hidden alias for " + encoding(Parameters::kShow);
    case 'T':
      next();
      return "transaction clone for " + encoding(Parameters::kShow);
    default:
      throw NotMangled();
  }
}

void DemangleParser::call_offset() {
  const char kind = next();
  const auto signed_number = [this] {
    take('n');
    number();
    expect('_');
  };
  if (kind != 'h' && kind != 'v') throw NotMangled();
  signed_number();
  if (kind == 'v') signed_number();
}

std::string DemangleParser::name(NameTraits& traits) {
  const Level level(*this);
  if (peek() == 'N') return nested_name(traits);
  if (peek() == 'Z') return local_name(traits);

  std::string result;
  bool from_substitution = false;
  if (peek() == 'S' && peek(1) != 't') {
    result = substitution(false).text();
    from_substitution = true;
  } else {
    if (take("St")) result = "std::";
    result += unqualified_name(traits);
  }
  traits.template_args = false;
  if (peek() == 'I') {
    if (!from_substitution) remember({.left = result});
    template_args(traits.collect);
    traits.template_args = true;
  }
  return result;
}

std::string DemangleParser::nested_name(NameTraits& traits) {
  expect('N');
  if (!take('H')) {
    const bool restricted = take('r');
    const bool is_volatile = take('V');
    if (take('K')) traits.qualifiers += " const";
    if (is_volatile) traits.qualifiers += " volatile";
    if (restricted) traits.qualifiers += " restrict";
    if (take('R')) traits.qualifiers += " &";
    if (take('O')) traits.qualifiers += " &&";
  }

  std::string result;
  const auto append = [&](const std::string& component) {
    if (!result.empty()) result += "::";
    result += component;
  };
  bool any = false;
  while (!take('E')) {
    bool is_candidate = true;
    traits.template_args = false;
    switch (peek()) {
      case 'S':
        if (any) throw NotMangled();
        result = substitution(true).text();
        is_candidate = false;
        break;
      case 'T':
        append(template_param().text());
        break;
      case 'I':
        if (!any) throw NotMangled();
        template_args(traits.collect);
        traits.template_args = true;
        break;
      case 'J':
        throw NotMangled();
      case 'M':
        // The scope of a lambda in a member's initializer.
        next();
        continue;
      case 'C':
        append(constructor_or_destructor(traits));
        break;
      case 'D':
        if (peek(1) == 't' || peek(1) == 'T') {
          append(type().text());
        } else if (peek(1) == 'C') {
          append(unqualified_name(traits));
        } else {
          append(constructor_or_destructor(traits));
        }
        break;
      default:
        append(unqualified_name(traits));
        break;
    }
    any = true;
    // The whole name is a candidate only as a type, and then type() remembers it.
    if (is_candidate && peek() != 'E') remember({.left = result});
  }
  if (!any) throw NotMangled();
  return result;
}

std::string DemangleParser::local_name(NameTraits& traits) {
  expect('Z');
  std::string result = encoding(Parameters::kEmpty) + "::";
  expect('E');
  if (take('s')) {
    discriminator();
    return result + "string literal";
  }
  if (take('d')) {
    // Inside the default argument of a parameter, counted from the last.
    const std::size_t index = peek() == '_' ? 1 : number() + 2;
    expect('_');
    result += "{default arg#" + std::to_string(index) + "}::";
  }
  result += name(traits);
  discriminator();
  return result;
}

void DemangleParser::discriminator() {
  if (peek() != '_') return;
  if (is_digit(peek(1))) {
    next();
    next();
  } else if (peek(1) == '_' && is_digit(peek(2))) {
    next();
    next();
    number();
    take('_');
  }
}

std::string DemangleParser::unqualified_name(NameTraits& traits) {
  traits.no_return_type = false;
  while (take('W')) {
    // The module that owns the name.
    take('P');
    source_name();
  }
  take('F');  // a friend, declared in this class
  std::string result;
  if (take('L')) {
    result = source_name();
    last_component_ = result;
    discriminator();
  } else if (is_digit(peek())) {
    result = source_name();
    last_component_ = result;
  } else if (peek() == 'U') {
    result = unnamed_name();
    last_component_ = result;
  } else if (take("DC")) {
    result = "[" + source_name();
    while (!take('E')) result += ", " + source_name();
    result += "]";
  } else {
    result = operator_name(traits);
  }
  return result + abi_tags();
}

std::string DemangleParser::abi_tags() {
  std::string result;
  while (take('B')) result += "[abi:" + source_name() + "]";
  return result;
}

std::string DemangleParser::source_name() {
  const std::size_t length = number();
  if (length == 0 || length > rest_.size()) throw NotMangled();
  const std::string_view text = rest_.substr(0, length);
  rest_.remove_prefix(length);
  charge(length);
  static constexpr std::string_view kAnonymous = "_GLOBAL_";
  if (text.starts_with(kAnonymous) && text.size() > kAnonymous.size() + 1 &&
      text[kAnonymous.size() + 1] == 'N') {
    return "(anonymous namespace)";
  }
  return std::string(text);
}

std::string DemangleParser::operator_name(NameTraits& traits) {
  if (take("cv")) {
    traits.no_return_type = true;
    const bool outer = std::exchange(in_conversion_, true);
    std::string target = type().text();
    in_conversion_ = outer;
    return "operator " + target;
  }
  if (take("li")) return "operator\"\" " + source_name();
  if (peek() == 'v' && is_digit(peek(1))) {
    next();
    next();
    return "operator " + source_name();
  }
  const OperatorCode* const code = find_operator(rest_);
  if (code == nullptr || !is_nameable(*code)) throw NotMangled();
  rest_.remove_prefix(code->code.size());
  std::string spelling(code->spelling);
  while (spelling.ends_with(' ')) spelling.pop_back();
  return "operator" + spelling;
}

std::string DemangleParser::constructor_or_destructor(NameTraits& traits) {
  const std::string base = last_component_;  // type() below changes it
  if (base.empty()) throw NotMangled();
  const bool destructor = next() == 'D';
  const bool inherited = !destructor && take('I');
  if (!is_digit(next())) throw NotMangled();
  if (inherited) type();
  traits.no_return_type = true;
  last_component_ = base;
  return (destructor ? "~" : "") + base + abi_tags();
}

std::string DemangleParser::unnamed_name() {
  expect('U');
  const char kind = next();
  std::string result;
  if (kind == 'l') {
    ++lambda_depth_;
    while (template_param_declaration()) {
    }
    if (take('Q')) expression();
    result = "{lambda(" + type_list('E') + ")";
    --lambda_depth_;
  } else if (kind == 't') {
    result = "{unnamed type";
  } else if (kind == 'b') {
    if (peek() != '_') number();
    expect('_');
    return "'block-literal'";
  } else {
    throw NotMangled();
  }
  const std::size_t index = peek() == '_' ? 1 : number() + 2;
  expect('_');
  return result + "#" + std::to_string(index) + "}";
}

}  // namespace profagent::service
