#include "agent/safe/settings.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <string>
#include <vector>

#include "agent/safe/arena.h"

namespace profagent::safe {
namespace {

// Reads the settings from these "NAME=value" lines. What a line does not name stays as it was.
void read(const std::vector<std::string>& lines) {
  std::vector<const char*> environment;
  for (const std::string& line : lines) environment.push_back(line.c_str());
  environment.push_back(nullptr);
  read_settings(environment.data());
}

TEST_CASE("defaults stand when nothing is set") {
  read({"PATH=/bin", "PROFAGENT=1", "PROFAGENT_MEM_PROFILE_RATE", "PROFAGENT_MEM_PROFILE_RATES=3",
        "PROFAGENT_ADDR="});
  CHECK(settings.mem_profile_rate == 524288);
  CHECK(settings.stack_depth == 128);
  CHECK(settings.max_memory == 64 << 20);
  CHECK(settings.follow_fork == 1);
  CHECK(settings.allow_remote == 0);
  CHECK(std::string(settings.addr) == "");
  CHECK(settings.log == 0);
  CHECK_FALSE(was_set("PROFAGENT_MEM_PROFILE_RATE"));
  CHECK_FALSE(was_set("PROFAGENT_ADDR"));
  CHECK(setting_problem_count() == 0);
  read_settings(nullptr);
  CHECK(settings.mem_profile_rate == 524288);
}

TEST_CASE("numbers and texts are taken, and known to be given") {
  read({"PROFAGENT_MEM_PROFILE_RATE=1", "PROFAGENT_STACK_DEPTH=512",
        "PROFAGENT_ADDR=:7070,unix:///tmp/%p.sock"});
  CHECK(settings.mem_profile_rate == 1);
  CHECK(settings.stack_depth == 512);
  CHECK(std::string(settings.addr) == ":7070,unix:///tmp/%p.sock");
  CHECK(was_set("PROFAGENT_MEM_PROFILE_RATE"));
  CHECK(was_set("PROFAGENT_ADDR"));
  CHECK_FALSE(was_set("PROFAGENT_FOLLOW_FORK"));
  CHECK_FALSE(was_set("PATH"));
  CHECK_FALSE(was_set(""));
  CHECK(setting_problem_count() == 0);
}

TEST_CASE("the first of two lines counts, as for getenv") {
  read({"PROFAGENT_MEM_PROFILE_RATE=11", "PROFAGENT_MEM_PROFILE_RATE=22"});
  CHECK(settings.mem_profile_rate == 11);
}

TEST_CASE("texts are copies: the program may write over its environment") {
  std::string line = "PROFAGENT_LOG_FILE=info";
  const char* environment[] = {line.c_str(), nullptr};
  read_settings(environment);
  line.assign(line.size(), 'x');
  CHECK(std::string(settings.log_file) == "info");
}

TEST_CASE("a choice is one of its words, and nothing else") {
  CHECK(last_choice("none") == 0);
  CHECK(last_choice("silent error info debug") == 3);
  CHECK(choice_at("silent error info debug", 0) == "silent");
  CHECK(choice_at("silent error info debug", 3) == "debug");
  CHECK(choice_of("silent error info debug", "info") == 2);
  for (const char* word : {"", "inf", "silent error", "info ", "Info"}) {
    CAPTURE(word);
    CHECK(choice_of("silent error info debug", word) == -1);
  }
  read({"PROFAGENT_LOG=debug", "PROFAGENT_CONTENTION_LABELS=lock,holder"});
  CHECK(settings.log == 3);
  CHECK(settings.contention_labels == 3);
  CHECK(was_set("PROFAGENT_LOG"));
  CHECK(choices_of("log") == "silent error info debug");
  CHECK(choices_of("stack_depth").empty());
  CHECK(choices_of("log_file").empty());
}

TEST_CASE("only live settings can be changed, and only within their bounds") {
  Bounds bounds{};
  CHECK(can_change("stack_depth", 512, bounds) == ChangeResult::kDone);
  CHECK(can_change("stack_depth", 513, bounds) == ChangeResult::kOutOfBounds);
  CHECK(bounds.minimum == 1);
  CHECK(bounds.maximum == 512);
  CHECK(can_change("log", 3, bounds) == ChangeResult::kDone);
  CHECK(can_change("log", 4, bounds) == ChangeResult::kOutOfBounds);
  // Sockets are open, and who may ask is not for those to say who ask.
  for (const char* fixed : {"addr", "allow_remote", "allow_uids", "token_file", "programs", "log_file"}) {
    CAPTURE(fixed);
    CHECK(can_change(fixed, 1, bounds) == ChangeResult::kNotLive);
  }
  CHECK(can_change("nosuch", 1, bounds) == ChangeResult::kUnknown);
  CHECK_FALSE(was_changed("PROFAGENT_FOLLOW_FORK"));
  change("follow_fork", 0);
  CHECK(settings.follow_fork == 0);
  CHECK(was_changed("PROFAGENT_FOLLOW_FORK"));
}

TEST_CASE("bounds belong to the range") {
  for (const char* depth : {"1", "512"}) {
    read({std::string("PROFAGENT_STACK_DEPTH=") + depth});
    CHECK(settings.stack_depth == std::stoi(depth));
  }
  read({"PROFAGENT_MEM_PROFILE_RATE=1099511627776"});
  CHECK(settings.mem_profile_rate == std::int64_t{1} << 40);
  read({"PROFAGENT_MEM_PROFILE_RATE=0"});
  CHECK(settings.mem_profile_rate == 0);
  read({"PROFAGENT_MEM_PROFILE_RATE=-0"});
  CHECK(settings.mem_profile_rate == 0);
  CHECK(setting_problem_count() == 0);
}

TEST_CASE("what is no number, or out of range, is reported and changes nothing") {
  read({"PROFAGENT_STACK_DEPTH=77"});
  const std::vector<std::string> wrong = {"0",
                                          "513",
                                          "-1",
                                          "-",
                                          "12 ",
                                          " 12",
                                          "0x10",
                                          "1e3",
                                          "512.0",
                                          "twelve",
                                          "9223372036854775808",
                                          "99999999999999999999999999"};
  for (std::size_t i = 0; i < wrong.size(); ++i) {
    INFO(wrong[i]);
    read({"PROFAGENT_STACK_DEPTH=" + wrong[i]});
    CHECK(settings.stack_depth == 77);
    REQUIRE(setting_problem_count() == i + 1);
    CHECK(std::string(setting_problem(i).variable) == "PROFAGENT_STACK_DEPTH");
    CHECK(setting_problem(i).value == wrong[i]);
  }
  read({"PROFAGENT_LOG=loud"});
  CHECK(settings.log == 3);
  REQUIRE(setting_problem_count() == wrong.size() + 1);
  CHECK(std::string(setting_problem(wrong.size()).variable) == "PROFAGENT_LOG");
  // The list is bounded.
  for (std::size_t i = 0; i < 2 * kMaxSettingProblems; ++i) read({"PROFAGENT_STACK_DEPTH=x"});
  CHECK(setting_problem_count() == kMaxSettingProblems);
}

TEST_CASE("a text that cannot be kept is empty, not dangling") {
  const std::string huge(Arena::kChunkBytes + 1, 'a');
  read({"PROFAGENT_PROGRAMS=" + huge});
  CHECK(std::string(settings.programs) == "");
}

TEST_CASE("a variable is found by its whole name") {
  const char* environment[] = {"ABC=1", "AB=2", "A", "=4", "A=", nullptr};
  CHECK(std::strcmp(find_variable(environment, "AB"), "2") == 0);
  CHECK(std::strcmp(find_variable(environment, "A"), "") == 0);
  CHECK(find_variable(environment, "B") == nullptr);
  CHECK(find_variable(nullptr, "A") == nullptr);
}

}  // namespace
}  // namespace profagent::safe
