// C++ names through libiberty, which makes a tree of the name and prints it.
//
// Template arguments cannot be taken from the tree: other parts refer to them (T_). So they are printed
// between two marks and cut afterwards. Parameters of the function itself are not read at all without
// DMGL_PARAMS.
#include <libiberty/demangle.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <string_view>
#include <vector>

#include "agent/service/demangle_parts.h"

namespace profagent::service {

namespace {

using Component = demangle_component;

constexpr char kBeginMark = 1;
constexpr char kEndMark = 2;

struct Children {
  Component* left = nullptr;
  Component* right = nullptr;
};

// The list is that of libiberty's own walk (d_count_templates_scopes); a kind that is new here may have
// neither.
static_assert(DEMANGLE_COMPONENT_EXTENDED_BUILTIN_TYPE == 92, "libiberty has new kinds of components");
Children children(const Component& node) {
  switch (node.type) {
    case DEMANGLE_COMPONENT_NAME:
    case DEMANGLE_COMPONENT_TEMPLATE_PARAM:
    case DEMANGLE_COMPONENT_FUNCTION_PARAM:
    case DEMANGLE_COMPONENT_SUB_STD:
    case DEMANGLE_COMPONENT_BUILTIN_TYPE:
    case DEMANGLE_COMPONENT_EXTENDED_BUILTIN_TYPE:
    case DEMANGLE_COMPONENT_OPERATOR:
    case DEMANGLE_COMPONENT_CHARACTER:
    case DEMANGLE_COMPONENT_NUMBER:
    case DEMANGLE_COMPONENT_UNNAMED_TYPE:
    case DEMANGLE_COMPONENT_FIXED_TYPE:
      return {};
    case DEMANGLE_COMPONENT_CTOR:
      return {node.u.s_ctor.name};
    case DEMANGLE_COMPONENT_DTOR:
      return {node.u.s_dtor.name};
    case DEMANGLE_COMPONENT_EXTENDED_OPERATOR:
      return {node.u.s_extended_operator.name};
    case DEMANGLE_COMPONENT_LAMBDA:
    case DEMANGLE_COMPONENT_DEFAULT_ARG:
      return {node.u.s_unary_num.sub};
    default:
      return {node.u.s_binary.left, node.u.s_binary.right};
  }
}

// The components of one name. Parts that repeat are shared.
class Tree {
 public:
  Tree(const std::string& name, int options);
  ~Tree() { std::free(block_); }
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;

  // False when it was not read, or when libiberty's printer would need too much of us.
  bool measure();
  void drop_enclosing_parameters();
  void mark_template_arguments();
  [[nodiscard]] std::string print(int options) const;

 private:
  struct Facts {
    bool is_seen = false;
    bool is_done = false;
    unsigned size = 0;  // written out, with repetitions
  };
  // The printer looks for parameter packs in all that is below an expansion, repetitions included.
  static constexpr unsigned kMaxSize = 1U << 20;
  // It keeps a list of the templates around on its stack, 16 bytes each, for every reference to a parameter,
  // and counts a shared part up to twice.
  static constexpr std::size_t kMaxScopes = (64UL << 10) / 16 / 4;

  [[nodiscard]] Facts& facts(const Component* node) {
    return facts_[static_cast<std::size_t>(node - static_cast<const Component*>(block_))];
  }
  void conclude(const Component& node);

  void* block_ = nullptr;
  Component* root_ = nullptr;
  std::vector<Facts> facts_;
  std::vector<Component*> templates_;
  std::vector<Component*> locals_;         // what stands inside of functions
  std::vector<Component*> abbreviations_;  // Ss and others, which libiberty may write out with arguments
  std::size_t references_to_parameters_ = 0;
  std::deque<Component> marks_;
};

// libiberty reads a word that it never sets, its d_info::unresolved_name_state: whatever lies on the stack
// decides whether what follows "sr" has today's grammar (not 0) or that of old compilers. So it is we who
// leave it there.
[[gnu::noinline, gnu::no_sanitize_address]] void leave_on_stack(int value) {
  volatile int words[256];
  for (volatile int& word : words) word = value;
}

Tree::Tree(const std::string& name, int options) : facts_(2 * name.size()) {
  leave_on_stack(1);
  root_ = cplus_demangle_v3_components(name.c_str(), options, &block_);
  if (root_ != nullptr || name.find("sr") == std::string::npos) return;
  leave_on_stack(0);
  root_ = cplus_demangle_v3_components(name.c_str(), options, &block_);
}

// Without recursion: the parser's depth was bounded by the length, ours need not add to it.
bool Tree::measure() {
  if (root_ == nullptr) return false;
  std::vector<Component*> path = {root_};
  while (!path.empty()) {
    Component* node = path.back();
    if (facts(node).is_seen) {
      if (!facts(node).is_done) conclude(*node);
      path.pop_back();
      continue;
    }
    facts(node).is_seen = true;
    if (node->type == DEMANGLE_COMPONENT_TEMPLATE) templates_.push_back(node);
    if (node->type == DEMANGLE_COMPONENT_LOCAL_NAME) locals_.push_back(node);
    if (node->type == DEMANGLE_COMPONENT_SUB_STD) abbreviations_.push_back(node);
    const auto [left, right] = children(*node);
    for (Component* child : {left, right}) {
      if (child != nullptr && !facts(child).is_seen) path.push_back(child);
    }
  }
  return facts(root_).size <= kMaxSize && templates_.size() * references_to_parameters_ <= kMaxScopes;
}

void Tree::conclude(const Component& node) {
  Facts& mine = facts(&node);
  const auto [left, right] = children(node);
  mine.is_done = true;
  mine.size = 1;
  for (const Component* child : {left, right}) {
    if (child == nullptr) continue;
    mine.size = std::min(mine.size + facts(child).size, kMaxSize + 1);
  }
  const bool is_reference =
      node.type == DEMANGLE_COMPONENT_REFERENCE || node.type == DEMANGLE_COMPONENT_RVALUE_REFERENCE;
  if (is_reference && left != nullptr && left->type == DEMANGLE_COMPONENT_TEMPLATE_PARAM) {
    ++references_to_parameters_;
  }
}

// google/pprof writes f()::Local for what is inside of f(int).
void Tree::drop_enclosing_parameters() {
  for (const Component* node : locals_) {
    const Component* function = node->u.s_binary.left;
    if (function == nullptr || function->type != DEMANGLE_COMPONENT_TYPED_NAME) continue;
    Component* type = function->u.s_binary.right;
    if (type != nullptr && type->type == DEMANGLE_COMPONENT_FUNCTION_TYPE)
      type->u.s_binary = {nullptr, nullptr};
  }
}

// The first mark goes behind the template's name, the second is one more argument: the numbers of the others
// stay.
void Tree::mark_template_arguments() {
  const auto add = [this](demangle_component_type type) {
    Component& added = marks_.emplace_back();
    added.type = type;
    return &added;
  };
  const auto add_name = [add](const char* mark) {
    Component* added = add(DEMANGLE_COMPONENT_NAME);
    added->u.s_name = {mark, 1};
    return added;
  };
  for (Component* node : templates_) {
    Component* name = add(DEMANGLE_COMPONENT_COMPOUND_NAME);
    name->u.s_binary = {node->u.s_binary.left, add_name(&kBeginMark)};
    node->u.s_binary.left = name;

    Component* last = add(DEMANGLE_COMPONENT_TEMPLATE_ARGLIST);
    last->u.s_binary = {add_name(&kEndMark), nullptr};
    Component* list = node->u.s_binary.right;
    while (list->u.s_binary.right != nullptr) list = list->u.s_binary.right;
    list->u.s_binary.right = last;
  }
  for (Component* node : abbreviations_) {
    auto& [text, length] = node->u.s_string;
    const std::string_view written(text, static_cast<std::size_t>(length));
    length = static_cast<int>(std::min(written.find('<'), written.size()));
  }
}

std::string Tree::print(int options) const {
  DemangledText text;
  return cplus_demangle_print_callback(options, root_, DemangledText::append, &text) != 0 ? text.take()
                                                                                          : std::string();
}

// A mark, <, the arguments, a mark, >.
std::string without_marked(const std::string& text) {
  std::string result;
  std::size_t depth = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == kBeginMark) {
      ++depth;
    } else if (text[i] == kEndMark) {
      --depth;
      ++i;
    } else if (depth == 0) {
      result += text[i];
    }
  }
  return result;
}

}  // namespace

std::string demangle_cplus(const std::string& name, DemangleStyle style) {
  const int options = DMGL_ANSI | (style == DemangleStyle::kFull ? DMGL_PARAMS : 0);
  Tree tree(name, options);
  if (!tree.measure()) return {};
  if (style == DemangleStyle::kFull) return tree.print(options);
  tree.drop_enclosing_parameters();
  if (style == DemangleStyle::kTemplates) return tree.print(options);
  tree.mark_template_arguments();
  return without_marked(tree.print(options));
}

}  // namespace profagent::service
