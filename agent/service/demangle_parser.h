// A recursive-descent parser of the Itanium C++ ABI's mangling, which writes only what profiles show.
// Template arguments and parameters are read, because they decide where a name ends and what a back reference
// means, and then dropped. (The C++ runtime's own demangler prints everything, with no way back, and refuses
// names over 1,024 bytes.)
//
// Grammar: https://itanium-cxx-abi.github.io/cxx-abi/abi.html#mangling. Internal to demangle*.cc.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace profagent::service {

// Thrown at the first thing that is not in the grammar; demangle() catches it.
struct NotMangled {};

// A type as text around the place where a declarator would stand: "void (*" and ")(int)".
struct DemangledType {
  enum class Shape : unsigned char { kPlain, kFunction, kArray };
  std::string left;
  std::string right = {};
  Shape shape = Shape::kPlain;
  bool pack = false;          // the expansion of a parameter pack
  std::size_t pack_size = 0;  // of a pack
  int parameter = -1;         // of the template: T_ is 0

  [[nodiscard]] std::string text() const;
};

class DemangleParser {
 public:
  explicit DemangleParser(std::string_view text) : rest_(text) {}

  // A whole name after its _Z.
  std::string parse() { return encoding(Parameters::kIgnore); }
  [[nodiscard]] std::string_view rest() const { return rest_; }

 private:
  // Of an encoding: the last in a whole name need not even be read; an enclosing function shows empty ones; a
  // thunk shows what it stands in for.
  enum class Parameters : unsigned char { kIgnore, kEmpty, kShow };
  using Type = DemangledType;

  // What an encoding needs to know about the name it begins with.
  struct NameTraits {
    bool template_args = false;   // ends with them
    bool no_return_type = false;  // constructor, destructor, conversion
    bool collect = false;         // its template arguments are what T_ means
    std::string qualifiers = {};  // of a member function
  };

  // demangle_names.cc
  std::string encoding(Parameters parameters);
  std::string special_name();
  std::string name(NameTraits& traits);
  std::string nested_name(NameTraits& traits);
  std::string local_name(NameTraits& traits);
  std::string unqualified_name(NameTraits& traits);
  std::string source_name();
  std::string operator_name(NameTraits& traits);
  std::string constructor_or_destructor(NameTraits& traits);  // of the class last named
  std::string unnamed_name();
  std::string abi_tags();
  void discriminator();
  void call_offset();
  std::string parameters(const NameTraits& traits, Parameters wanted);
  std::string fill_forward_references(std::string text) const;

  // demangle_types.cc
  Type type();
  Type type_without_remembering(bool& remember);
  Type function_type();
  Type array_type();
  Type member_pointer();
  Type d_type(bool& remember);
  Type vendor_qualified();
  Type named_type(bool& remember);
  Type template_param();
  Type substitution(bool in_prefix);
  Type pointer_to(Type inner, std::string_view mark);
  std::string type_list(char end);
  void template_args(bool collect);
  Type template_arg();
  bool template_param_declaration();

  // demangle_expressions.cc
  void expression();
  void expression_after(std::string_view code);
  void expression_primary();
  void expressions_until(char end);
  void unresolved_name();
  void base_unresolved_name();
  void qualified_unresolved();
  void simple_id();
  void function_param();
  void fold(bool two_operands);
  void new_expression();
  void requires_expression(bool with_parameters);

  // Tokens.
  [[nodiscard]] char peek(std::size_t ahead = 0) const { return ahead < rest_.size() ? rest_[ahead] : '\0'; }
  [[nodiscard]] bool at_end_of_list() const;
  bool take(char expected);
  bool take(std::string_view expected);
  void expect(char expected);
  char next();
  std::size_t number();
  std::size_t sequence_number();
  void remember(Type type);
  void charge(std::size_t bytes);

  // Every recursive rule holds one of these.
  class Level {
   public:
    explicit Level(DemangleParser& parser);
    ~Level() { --parser_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    DemangleParser& parser_;
  };

  std::string_view rest_;
  std::vector<Type> substitutions_;
  std::vector<Type> template_args_;
  std::string last_component_;  // what a constructor is called
  std::size_t written_ = 0;
  int depth_ = 0;
  int lambda_depth_ = 0;
  bool in_conversion_ = false;  // the target of a conversion operator
};

// The code of an operator: two letters, its spelling, and how many operands it takes in an expression
// (0: it has a rule of its own).
struct OperatorCode {
  std::string_view code;
  std::string_view spelling;
  int operands;
};
[[nodiscard]] const OperatorCode* find_operator(std::string_view text);

// demangle_rust.cc: the legacy scheme, _ZN...17h<16 hex digits>E. Empty when it is not that.
[[nodiscard]] std::string demangle_rust_legacy(std::string_view name);

}  // namespace profagent::service
