#include "agent/service/demangle.h"

#include <algorithm>

#include "agent/service/demangle_parser.h"

namespace profagent::service {

namespace {

constexpr std::size_t kMaxLength = 65536;
// Levels of nesting; the deepest name in node's 107,000 symbols has some sixty.
constexpr int kMaxDepth = 256;
// Text produced on the way. Back references can double it at every step.
constexpr std::size_t kMaxWritten = 8UL * 1024 * 1024;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

}  // namespace

std::string demangle(std::string_view linker_name) {
  if (linker_name.size() > kMaxLength) return std::string(linker_name);
  if (linker_name.starts_with("_Z")) {
    if (std::string rust = demangle_rust_legacy(linker_name); !rust.empty()) return rust;
    try {
      return DemangleParser(linker_name.substr(2)).parse();
    } catch (const NotMangled&) {
      return std::string(linker_name);
    }
  }
  return std::string(linker_name);
}

DemangleParser::Level::Level(DemangleParser& parser) : parser_(parser) {
  if (++parser_.depth_ > kMaxDepth) {
    // The destructor of what was not constructed does not run.
    --parser_.depth_;
    throw NotMangled();
  }
}

bool DemangleParser::at_end_of_list() const {
  return rest_.empty() || peek() == 'E' || peek() == '.' || peek() == '_' || peek() == '@';
}

bool DemangleParser::take(char expected) {
  if (rest_.empty() || rest_.front() != expected) return false;
  rest_.remove_prefix(1);
  return true;
}

bool DemangleParser::take(std::string_view expected) {
  if (!rest_.starts_with(expected)) return false;
  rest_.remove_prefix(expected.size());
  return true;
}

void DemangleParser::expect(char expected) {
  if (!take(expected)) throw NotMangled();
}

char DemangleParser::next() {
  if (rest_.empty()) throw NotMangled();
  const char c = rest_.front();
  rest_.remove_prefix(1);
  return c;
}

std::size_t DemangleParser::number() {
  if (!is_digit(peek())) throw NotMangled();
  std::size_t value = 0;
  while (is_digit(peek())) {
    value = value * 10 + static_cast<std::size_t>(next() - '0');
    if (value > (std::size_t{1} << 40)) throw NotMangled();
  }
  return value;
}

// Base 36: digits and capitals.
std::size_t DemangleParser::sequence_number() {
  std::size_t value = 0;
  for (;;) {
    const char c = peek();
    if (is_digit(c)) {
      value = value * 36 + static_cast<std::size_t>(c - '0');
    } else if (c >= 'A' && c <= 'Z') {
      value = value * 36 + static_cast<std::size_t>(c - 'A') + 10;
    } else {
      return value;
    }
    next();
    if (value > kMaxLength) throw NotMangled();
  }
}

void DemangleParser::remember(Type type) {
  charge(type.left.size() + type.right.size());
  substitutions_.push_back(std::move(type));
}

void DemangleParser::charge(std::size_t bytes) {
  written_ += bytes;
  if (written_ > kMaxWritten) throw NotMangled();
}

}  // namespace profagent::service
