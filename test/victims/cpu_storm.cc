// Everything that moves a stack or what describes it, each in a thread that goes on for ever: yielding,
// coroutines, exceptions through many frames, signals to oneself, libraries that come and go (two threads),
// vfork, other threads, allocation. Argument "only NAME": just that one. Command "report" prints each one's
// rounds.
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "test/victims/burn.h"
#include "test/victims/kit.h"

namespace {

constexpr unsigned kBit = 100000;  // ns

// A sampler that disturbs a throw, or a catch, ends the process or loses a destructor.
int destroyed = 0;
struct Counted {
  ~Counted() { ++destroyed; }
};

}  // namespace

NOINLINE void throw_through(int depth) {  // NOLINT(misc-no-recursion)
  const Counted counted;
  if (depth == 0) throw std::runtime_error("out of the deep");
  throw_through(depth - 1);
  USE(&counted);
}

NOINLINE void throws() {
  destroyed = 0;
  try {
    throw_through(20);
  } catch (const std::runtime_error& error) {
    USE(error.what());
  }
  if (destroyed != 21) _exit(4);
}

namespace {

// Who gives way after the same short time again and again may never be running when the kernel ticks.
inline __attribute__((always_inline)) void burn_unevenly(std::uint64_t& random) {
  burn(static_cast<unsigned>(next_random(&random) % (80 * kBit)));
}

}  // namespace

NOINLINE void yields() {
  static std::uint64_t random = 88172645463325252;
  burn_unevenly(random);
  sched_yield();
  END_OF_FRAME();
}

namespace {

ucontext_t scheduler, coroutine;

}  // namespace

NOINLINE void in_coroutine() {
  for (;;) {
    burn(kBit);
    swapcontext(&coroutine, &scheduler);
  }
}

NOINLINE void switches() {
  static char stack[64 << 10];
  if (coroutine.uc_stack.ss_sp == nullptr) {
    getcontext(&coroutine);
    coroutine.uc_stack.ss_sp = stack;
    coroutine.uc_stack.ss_size = sizeof stack;
    makecontext(&coroutine, in_coroutine, 0);
  }
  swapcontext(&scheduler, &coroutine);
  END_OF_FRAME();
}

NOINLINE void in_handler() {
  burn(kBit);
  END_OF_FRAME();
}

NOINLINE void signals() {
  struct sigaction action = {};
  action.sa_handler = [](int) { in_handler(); };
  sigaction(SIGUSR1, &action, nullptr);
  pthread_kill(pthread_self(), SIGUSR1);
  END_OF_FRAME();
}

NOINLINE void loads() {
  void* library = dlopen("libcpu_plugin.so", RTLD_NOW);
  if (library == nullptr) _exit(5);
  reinterpret_cast<void (*)()>(dlsym(library, "plugin_burn"))();
  dlclose(library);
}

NOINLINE void vforks() {
  const pid_t child = vfork();  // NOLINT(clang-analyzer-security.insecureAPI.vfork)
  if (child == 0) _exit(0);
  int status = 1;
  if (waitpid(child, &status, 0) != child || status != 0) _exit(6);
  static std::uint64_t random = 88172645463325252;
  burn_unevenly(random);
}

NOINLINE void starts() {
  std::thread([] { burn(kBit); }).join();
  END_OF_FRAME();
}

NOINLINE void allocates() {
  for (std::size_t i = 0; i < 100; ++i) {
    void* block = std::malloc(i * 97 % 5000);
    USE(block);
    std::free(block);
  }
  END_OF_FRAME();
}

namespace {

struct Mover {
  const char* name;
  void (*move)();
  unsigned long rounds;
} movers[] = {{"yields", yields, 0},   {"switches", switches, 0}, {"throws", throws, 0},
              {"signals", signals, 0}, {"loads", loads, 0},       {"loads", loads, 0},
              {"vforks", vforks, 0},   {"starts", starts, 0},     {"allocates", allocates, 0}};

}  // namespace

int main(int argc, char** argv) {
  const std::string only = argc > 2 && std::string(argv[1]) == "only" ? argv[2] : "";
  for (Mover& mover : movers) {
    if (!only.empty() && only != mover.name) continue;
    std::thread([&mover] {
      name_thread(mover.name);
      for (;;) {
        mover.move();
        __atomic_add_fetch(&mover.rounds, 1, __ATOMIC_RELAXED);
      }
    }).detach();
  }
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command) != 0) {
    for (const Mover& mover : movers) {
      char line[64];
      std::snprintf(line, sizeof line, "%s %lu\n", mover.name,
                    __atomic_load_n(&mover.rounds, __ATOMIC_RELAXED));
      say(line);
    }
    say("done\n");
  }
  _exit(0);
}
