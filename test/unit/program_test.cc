#include "agent/program.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <string>

#include <unistd.h>

#include "agent/safe/settings.h"

namespace profagent {
namespace {

// What identify_program() says of this test's executable under another name: a copy of it runs the hidden
// case at the end of this file.
Role role_of(const std::string& name, const std::string& programs = "", const std::string& started_as = "") {
  char folder[] = "/tmp/program_test.XXXXXX";
  REQUIRE(mkdtemp(folder) != nullptr);
  const std::string copy = std::string(folder) + "/" + name;
  std::filesystem::copy_file("/proc/self/exe", copy);
  if (!started_as.empty()) std::filesystem::create_symlink(copy, std::string(folder) + "/" + started_as);
  const std::string command = "PROFAGENT_PROGRAMS='" + programs + "' '" + folder + "/" +
                              (started_as.empty() ? name : started_as) + "' '[.child]' > " + folder +
                              "/out 2>&1";
  const int status = std::system(command.c_str());  // NOLINT(concurrency-mt-unsafe): one thread
  std::filesystem::remove_all(folder);
  REQUIRE(WIFEXITED(status));
  REQUIRE((WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 1));
  return WEXITSTATUS(status) == 0 ? Role::kProfiled : Role::kDormant;
}

TEST_CASE("globs") {
  CHECK(matches_any("redis-server", "redis-server"));
  CHECK_FALSE(matches_any("redis-server", "redis-serve"));
  CHECK_FALSE(matches_any("redis-serve", "redis-server"));
  CHECK(matches_any("redis*", "redis"));
  CHECK(matches_any("*", ""));
  CHECK(matches_any("*", "x"));
  CHECK(matches_any("*server", "redis-server"));
  CHECK(matches_any("r*s*r", "redis-server"));
  CHECK_FALSE(matches_any("r*z*r", "redis-server"));
  CHECK(matches_any("python3.?", "python3.9"));
  CHECK_FALSE(matches_any("python3.?", "python3.11"));
  CHECK_FALSE(matches_any("?", ""));
  CHECK(matches_any("**a**", "a"));
  CHECK(matches_any("*ab", "aab"));
  CHECK(matches_any("a*b*c", "a-b-b-c-b-c"));
  CHECK_FALSE(matches_any("[a]", "a"));
  CHECK(matches_any("[a]", "[a]"));
}

TEST_CASE("lists of globs") {
  CHECK(matches_any("nginx,redis*", "redis-server"));
  CHECK(matches_any(" nginx , redis* ", "nginx"));
  CHECK(matches_any(",,nginx,", "nginx"));
  CHECK_FALSE(matches_any("", "nginx"));
  CHECK_FALSE(matches_any(",", ""));
  CHECK_FALSE(matches_any("nginx,redis", "nginx,redis"));
}

TEST_CASE("a glob of many stars does not take for ever") {
  const std::string name(250, 'a');
  std::string pattern;
  for (int i = 0; i < 120; ++i) pattern += "a*";
  CHECK(matches_any(pattern, name));
  CHECK_FALSE(matches_any(pattern + "b", name));
}

TEST_CASE("an ordinary program is profiled") {
  const Program program = identify_program();
  CHECK(program.role == Role::kProfiled);
  CHECK(program.name == std::filesystem::read_symlink("/proc/self/exe").filename().string());
}

TEST_CASE("programs that only start others are dormant, whatever their version and target") {
  for (const char* name :
       {"bash", "env", "timeout", "make", "gcc", "gcc-12", "x86_64-linux-gnu-g++-12", "clang-14"}) {
    INFO(name);
    CHECK(role_of(name) == Role::kDormant);
  }
  for (const char* name :
       {"redis-server", "bashful", "my-env", "gcc-server", "python3.11", "service-12", "12", "-"}) {
    INFO(name);
    CHECK(role_of(name) == Role::kProfiled);
  }
}

TEST_CASE("PROFAGENT_PROGRAMS decides alone when it is set") {
  CHECK(role_of("bash", "redis*,bash") == Role::kProfiled);
  CHECK(role_of("redis-server", "redis*,bash") == Role::kProfiled);
  CHECK(role_of("nginx", "redis*,bash") == Role::kDormant);
}

TEST_CASE("a program may be named as it was started, through a link") {
  CHECK(role_of("interpreter3.11", "my-service", "my-service") == Role::kProfiled);
  CHECK(role_of("interpreter3.11", "interpreter*", "my-service") == Role::kProfiled);
  CHECK(role_of("interpreter3.11", "other", "my-service") == Role::kDormant);
}

TEST_CASE("an executable that was deleted keeps its name") {
  CHECK(role_of("make (deleted)") == Role::kDormant);
  CHECK(role_of("nginx (deleted)", "nginx") == Role::kProfiled);
}

TEST_CASE("run by role_of()", "[.child]") {
  safe::read_settings(environ);
  REQUIRE(identify_program().role == Role::kProfiled);
}

}  // namespace
}  // namespace profagent
