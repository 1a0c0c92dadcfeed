// What the helper process finds in debug information, and what the program that it is started from notices.
#include "agent/service/source_lines.h"

#include <algorithm>

#include "test/unit/symbols_victim.h"
#include "test/victims/lines_lib.h"

using namespace profagent::service;
using namespace profagent::service::test;

namespace {

// Functions and lines, innermost first.
using Text = std::string;

// "function:line function:line", innermost first.
Text text_of(const LineChain& chain) {
  Text text;
  for (const SourceLine& line : chain) {
    text += (text.empty() ? "" : " ") + std::string(line.function) + ":" + std::to_string(line.line);
  }
  return text;
}

class LinesLibrary {
 public:
  explicit LinesLibrary(const std::string& path) : handle_(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    INFO(path);
    REQUIRE(handle_ != nullptr);
    const auto places = reinterpret_cast<const lines::Place* (*)()>(dlsym(handle_, "lines_places"));
    REQUIRE(places != nullptr);
    for (const lines::Place* place = places(); place->return_address != nullptr; ++place) {
      calls_.push_back(reinterpret_cast<std::uintptr_t>(place->return_address) - 1);
      Text text;
      for (const lines::Frame* frame = place->frames; frame->function != nullptr; ++frame) {
        text += (text.empty() ? "" : " ") + std::string(frame->function) + ":" + std::to_string(frame->line);
      }
      truth_.push_back(text);
    }
  }
  ~LinesLibrary() { dlclose(handle_); }
  LinesLibrary(const LinesLibrary&) = delete;
  LinesLibrary& operator=(const LinesLibrary&) = delete;

  [[nodiscard]] const std::vector<std::uintptr_t>& calls() const { return calls_; }
  [[nodiscard]] const std::vector<Text>& truth() const { return truth_; }

 private:
  void* handle_;
  std::vector<std::uintptr_t> calls_;
  std::vector<Text> truth_;
};

LineOptions with_helper(std::string_view debug_root = "/nonexistent") {
  return {.helper = std::getenv("PROFAGENT_SO"), .debug_root = debug_root};
}

std::vector<Text> lines_of(const LinesLibrary& library, std::string_view debug_root = "/nonexistent") {
  SourceLines lines(with_helper(debug_root));
  const LineAnswer answer = lines.find(ModuleSet::now({}), library.calls());
  CHECK(answer.problem.empty());
  std::vector<Text> texts;
  for (const auto& chain : answer.chains) texts.push_back(chain == nullptr ? "" : text_of(*chain));
  return texts;
}

// The truth where the linker inlines nothing: a call into another source file is not in it.
std::vector<Text> without_far_inlining(std::vector<Text> truth) {
  for (Text& text : truth) {
    if (text.starts_with("_ZN5lines8far_awayEi:")) text = text.substr(0, text.find(' '));
  }
  return truth;
}

}  // namespace

TEST_CASE("lines and inlined functions are what the source says") {
  const Folder folder;
  for (const char* const variant : {"liblines_plain.so", "liblines_optimized.so", "liblines_lto.so",
                                    "liblines_dwarf4.so", "liblines_packed.so", "liblines_noid.so"}) {
    INFO(variant);
    const LinesLibrary library(folder.copy(variant, variant));
    REQUIRE(library.truth().size() == 4);
    const bool is_linked_as_one = variant == std::string("liblines_lto.so");
    CHECK(lines_of(library) == (is_linked_as_one ? library.truth() : without_far_inlining(library.truth())));
  }
}
