// Variants of the library symbols_lib: copied into a folder of the test's own, changed with binutils, loaded.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include <dlfcn.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/service/symbols.h"

extern char** environ;

namespace profagent::service::test {

// Where the build put the victims.
inline std::string victim_path(const std::string& name) {
  const char* const folder = std::getenv("VICTIM_DIR");
  REQUIRE(folder != nullptr);
  return std::string(folder) + "/" + name;
}

// What a program wrote; requires that it succeeded.
inline std::string run(const std::vector<std::string>& command) {
  int out[2];
  REQUIRE(pipe(out) == 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  posix_spawn_file_actions_addclose(&actions, out[0]);
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(out[1]);
  INFO("command " << command[0]);
  REQUIRE(failed == 0);
  std::string text;
  char buffer[4096];
  for (ssize_t got = 0; (got = read(out[0], buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(got));
  close(out[0]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(status == 0);
  return text;
}

class Folder {
 public:
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "symbols_test_XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  [[nodiscard]] const std::string& path() const { return path_; }
  // A fresh copy of a victim: a file of its own, so that the loader takes it for another library.
  [[nodiscard]] std::string copy(const std::string& victim, const std::string& name) const {
    std::filesystem::copy_file(victim_path(victim), path_ + "/" + name);
    return path_ + "/" + name;
  }

 private:
  std::string path_;
};

class Library {
 public:
  explicit Library(const std::string& path) : handle_(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    INFO(path);
    REQUIRE(handle_ != nullptr);
  }
  ~Library() { close(); }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
  void close() {
    if (handle_ != nullptr) dlclose(handle_);
    handle_ = nullptr;
  }

  enum Function { kExported, kStatic, kManyNames, kAsmLabel, kAsmAfter };
  // The address of an instruction inside the function.
  [[nodiscard]] std::uintptr_t inside(Function which) const {
    const auto address = reinterpret_cast<const void* (*)(int)>(dlsym(handle_, "symbols_address"));
    return reinterpret_cast<std::uintptr_t>(address(which)) + 2;
  }

 private:
  void* handle_;
};

// The linker names of all five functions, in the order of Function.
inline std::vector<std::string> names_of(const Library& library,
                                         std::string_view debug_root = "/nonexistent") {
  const ModuleSet modules = ModuleSet::now({});
  Symbolizer symbolizer(debug_root);
  std::vector<std::uintptr_t> pcs;
  for (int which = 0; which < 5; ++which)
    pcs.push_back(library.inside(static_cast<Library::Function>(which)));
  std::vector<std::string> names;
  for (const ResolvedPc& answer : symbolizer.resolve(modules, pcs))
    names.push_back(answer.symbol->system_name);
  return names;
}

inline std::string build_id_by_readelf(const std::string& file) {
  const std::string text = run({"readelf", "-nW", file});
  static constexpr std::string_view kLabel = "Build ID: ";
  const std::size_t at = text.find(kLabel);
  REQUIRE(at != std::string::npos);
  return text.substr(at + kLabel.size(),
                     text.find_first_not_of("0123456789abcdef", at + kLabel.size()) - at - kLabel.size());
}

}  // namespace profagent::service::test
