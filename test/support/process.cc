#include "test/support/process.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <stdexcept>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace profagent::test {
namespace {

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& text : strings) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

int open_for_child(const std::string& path) {
  return open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
}

}  // namespace

Process::Process(Arguments arguments, const Environment& environment) {
  Environment all = {
      {"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin"},
      {"HOME", dir_.path()},
      {"LANG", "C.UTF-8"}};
  for (const auto& [name, value] : environment) all[name] = value;
  std::vector<std::string> lines;
  lines.reserve(all.size());
  for (const auto& [name, value] : all) lines.push_back(name + "=" + value);
  const std::vector<char*> env = pointers(lines);
  const std::vector<char*> argv = pointers(arguments);

  int input[2];
  if (pipe2(input, O_CLOEXEC) != 0) throw std::runtime_error("pipe failed");
  const int out = open_for_child(dir_.file("out"));
  const int err = open_for_child(dir_.file("err"));
  pid_ = fork();
  if (pid_ == 0) {
    // Only async-signal-safe calls from here on.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(input[0], 0);
    dup2(out, 1);
    dup2(err, 2);
    struct sigaction fresh = {};
    fresh.sa_handler = SIG_DFL;
    sigaction(SIGPIPE, &fresh, nullptr);
    execvpe(argv[0], argv.data(), env.data());
    _exit(127);
  }
  close(input[0]);
  close(out);
  close(err);
  input_ = input[1];
  if (pid_ < 0) throw std::runtime_error("fork failed");
}

Process::~Process() {
  close_input();
  if (ended_) return;
  kill(pid_, SIGKILL);
  reap(true);
}

bool Process::reap(bool block) {
  if (ended_) return true;
  pid_t result = 0;
  do {
    result = waitpid(pid_, &status_, block ? 0 : WNOHANG);
  } while (result < 0 && errno == EINTR);
  if (result == pid_) ended_ = true;
  return ended_;
}

bool Process::running() {
  return !reap(false);
}

void Process::signal(int number) const {
  if (!ended_) kill(pid_, number);
}

void Process::tell(const std::string& line) {
  const std::string text = line + "\n";
  // A child that has gone shows itself in the assertion that follows, not as SIGPIPE in the test.
  struct sigaction ignore = {};
  ignore.sa_handler = SIG_IGN;
  struct sigaction before = {};
  sigaction(SIGPIPE, &ignore, &before);
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t sent = write(input_, text.data() + done, text.size() - done);
    if (sent < 0 && errno != EINTR) break;
    if (sent > 0) done += static_cast<std::size_t>(sent);
  }
  sigaction(SIGPIPE, &before, nullptr);
}

void Process::close_input() {
  if (input_ >= 0) close(input_);
  input_ = -1;
}

bool Process::wait_for_output(const std::string& text, std::size_t times) {
  return eventually([&] {
    const bool ended = !running();
    const std::string output = out();
    std::size_t seen = 0;
    for (std::size_t at = output.find(text); at != std::string::npos;
         at = output.find(text, at + text.size()))
      ++seen;
    if (seen >= times) return true;
    if (ended) throw std::runtime_error("it ended before it said '" + text + "': " + output + err());
    return false;
  });
}

Outcome Process::finish(std::chrono::seconds patience) {
  close_input();
  Outcome outcome;
  if (!eventually([this] { return !running(); }, patience)) {
    outcome.timed_out = true;
    kill(pid_, SIGKILL);
    reap(true);
  }
  if (WIFEXITED(status_)) outcome.exit_code = WEXITSTATUS(status_);
  if (WIFSIGNALED(status_)) outcome.signal = WTERMSIG(status_);
  outcome.out = out();
  outcome.err = err();
  return outcome;
}

Outcome run(const Arguments& arguments, const Environment& environment, const std::string& input,
            std::chrono::seconds patience) {
  Process process(arguments, environment);
  if (!input.empty()) process.tell(input);
  return process.finish(patience);
}

}  // namespace profagent::test
