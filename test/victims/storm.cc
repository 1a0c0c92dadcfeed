// Everything at once for a while: threads that throw through allocating frames, load and unload a library,
// allocate in a signal handler's neighbourhood, and come and go. An allocation hook that locks, or unwinds
// with locks, hangs or crashes here. Argument: rounds.
#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <dlfcn.h>

#include "test/victims/kit.h"

namespace {

int rounds = 2000;

NOINLINE void throw_through(int depth) {  // NOLINT(misc-no-recursion)
  const std::string text(static_cast<std::size_t>(depth) * 40, 'x');
  if (depth == 0) throw std::runtime_error("out of the deep: a message that needs the heap");
  throw_through(depth - 1);
  USE(text.data());
}

void throw_often() {
  for (int i = 0; i < rounds; ++i) {
    try {
      throw_through(10);
    } catch (const std::runtime_error& error) {
      USE(error.what());
    }
  }
}

void load_often() {
  for (int i = 0; i < rounds / 4; ++i) {
    void* library = dlopen("libmodule_a.so", RTLD_NOW);
    if (library == nullptr) _exit(5);
    reinterpret_cast<void (*)()>(dlsym(library, "in_module_a"))();
    dlclose(library);
  }
}

void start_often() {
  for (int i = 0; i < rounds / 4; ++i) std::thread([] { std::free(std::malloc(100)); }).join();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) rounds = std::atoi(argv[1]);
  say("ready\n");
  std::vector<std::thread> threads;
  threads.emplace_back(throw_often);
  threads.emplace_back(throw_often);
  threads.emplace_back(load_often);
  threads.emplace_back(start_often);
  for (std::thread& thread : threads) thread.join();
  say("survived\n");
  char command[64];
  while (await_command(command, sizeof command) != 0) say("done\n");
}
