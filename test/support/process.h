// Runs programs for tests. A Process is one child: its standard input is a pipe that the test writes, its
// output goes to files. The destructor ends that very child (by pid) and nothing else; all waits are bounded.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include <sys/types.h>

#include "test/support/eventually.h"
#include "test/support/temp_dir.h"

namespace profagent::test {

using Environment = std::map<std::string, std::string>;
using Arguments = std::vector<std::string>;

struct Outcome {
  int exit_code = -1;      // -1 when it did not exit by itself
  int signal = 0;          // the signal that ended it
  bool timed_out = false;  // it was still running and was killed
  std::string out;
  std::string err;
  [[nodiscard]] bool ok() const { return exit_code == 0; }
};

class Process {
 public:
  // The child's environment is PATH, HOME, LANG and what `environment` adds; nothing else leaks in from the
  // test's own.
  Process(Arguments arguments, const Environment& environment);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] const TempDir& dir() const { return dir_; }
  [[nodiscard]] std::string out() const { return read_text(dir_.file("out")); }
  [[nodiscard]] std::string err() const { return read_text(dir_.file("err")); }
  [[nodiscard]] bool running();

  void tell(const std::string& line);  // writes the line to its standard input
  void close_input();
  // True when standard output holds `text` `times` times before patience ends.
  bool wait_for_output(const std::string& text, std::size_t times = 1);
  // Closes its input and waits for its end.
  Outcome finish(std::chrono::seconds patience = kPatience);
  void signal(int number) const;

 private:
  bool reap(bool block);
  TempDir dir_;
  pid_t pid_ = -1;
  int input_ = -1;
  bool ended_ = false;
  int status_ = 0;
};

// Runs to the end. `input` is its whole standard input.
Outcome run(const Arguments& arguments, const Environment& environment = {}, const std::string& input = {},
            std::chrono::seconds patience = kPatience);

}  // namespace profagent::test
