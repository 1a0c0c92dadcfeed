// Variants of the library lines_lib: what it says of its own calls, and what the agent says of them.
#pragma once

#include <cstdlib>
#include <string>
#include <vector>

#include <dlfcn.h>

#include "agent/service/source_lines.h"
#include "test/unit/symbols_victim.h"
#include "test/victims/lines_lib.h"

namespace profagent::service::test {

// One chain: "function:line function:line", innermost first.
using Text = std::string;

inline Text text_of(const LineChain& chain) {
  Text text;
  for (const SourceLine line : chain) {
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

inline LineOptions with_helper(std::string_view debug_root = "/nonexistent") {
  return {.helper = std::getenv("PROFAGENT_SO"), .debug_root = debug_root};
}

inline std::vector<Text> texts_of(const LineAnswer& answer) {
  std::vector<Text> texts;
  for (const LineChain& chain : answer.chains) texts.push_back(text_of(chain));
  return texts;
}

// The truth where the linker inlines nothing: a call from another source file is not in it.
inline std::vector<Text> without_far_inlining(std::vector<Text> truth) {
  for (Text& text : truth) {
    if (text.starts_with("_ZN5lines8far_awayEi:")) text = text.substr(0, text.find(' '));
  }
  return truth;
}

}  // namespace profagent::service::test
