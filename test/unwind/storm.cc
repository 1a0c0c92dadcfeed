// Samples threads with a 1 kHz timer each, and by signals from outside, while they load and unload a plugin,
// throw, recurse and switch stacks. Fails by a crash, a hang (the caller's time limit), or a stack that is
// wrong: every tenth sample is compared with a second walk that remembers nothing, and every complete stack
// must end at the program's or a thread's start.
//   storm PLUGIN [seconds]
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "agent/safe/unwind.h"
#include "agent/safe/walk_cache.h"

using namespace profagent::safe;

namespace {

const char* plugin_path;
std::atomic<bool> stop;
std::atomic<unsigned long> samples, incomplete, truncated, hinted, compared, wrong_id, wrong_hash, wrong_end,
    wrong_stack, work_done[6];
thread_local Pc pcs[2][256];
// The outermost two frames of a thread, known from its own beginning.
thread_local Pc outermost;

void print_once(const Stack& stack) {
  static std::atomic<int> printed;
  if (printed++ >= 3) return;
  for (unsigned i = 0; i < stack.depth; ++i) {
    Dl_info info{};
    dladdr(reinterpret_cast<void*>(pcs[0][i]), &info);
    std::fprintf(stderr, "  %s+%lx %s\n", info.dli_fname, pcs[0][i] - reinterpret_cast<Pc>(info.dli_fbase),
                 info.dli_sname != nullptr ? info.dli_sname : "");
  }
  std::fprintf(stderr, "--\n");
}

void on_sample(int, siginfo_t*, void* raw) {
  const int saved_errno = errno;
  const StartFrame start = frame_of(*static_cast<ucontext_t*>(raw));
  const Stack stack = capture_stack(start, pcs[0]);
  const unsigned long number = samples.fetch_add(1) + 1;
  if (stack.incomplete) ++incomplete;
  if (stack.truncated) ++truncated;
  if (stack.id_hint != kNoStack) ++hinted;
  if (stack.hash != hash_stack({pcs[0], stack.depth})) {
    ++wrong_hash;
    print_once(stack);
  }
  remember_stack_id(stack, 1 + static_cast<StackId>(stack.hash % 1000003));
  if (stack.id_hint != kNoStack && stack.id_hint != 1 + static_cast<StackId>(stack.hash % 1000003))
    ++wrong_id;
  if (!stack.incomplete && !stack.truncated && outermost != 0 && pcs[0][stack.depth - 1] != outermost) {
    ++wrong_end;
    print_once(stack);
  }
  if (number % 10 == 0) {
    // Both caches that this thread would take are taken: the walk cannot remember.
    const LeasedCache held[2] = {lease_walk_cache(), lease_walk_cache()};
    const Stack again = capture_stack(start, pcs[1]);
    for (const LeasedCache& lease : held) {
      if (lease.cache != nullptr) lease.cache->unlock();
    }
    ++compared;
    if (again.depth != stack.depth || again.hash != stack.hash ||
        !std::equal(pcs[0], pcs[0] + stack.depth, pcs[1])) {
      ++wrong_stack;
      print_once(stack);
    }
  }
  errno = saved_errno;
}

void start_timer() {
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = SIGPROF;
  event._sigev_un._tid = gettid();
  timer_t timer;
  if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer) != 0) std::abort();
  itimerspec period{};
  period.it_value.tv_nsec = period.it_interval.tv_nsec = 1000000;
  timer_settime(timer, 0, &period, nullptr);
}

void load_and_unload(bool forget) {
  void* plugin = dlopen(plugin_path, RTLD_NOW | RTLD_LOCAL);
  if (plugin == nullptr) std::abort();
  auto* work = reinterpret_cast<unsigned long (*)(unsigned)>(dlsym(plugin, "plugin_work"));
  for (unsigned depth = 0; depth < 40; ++depth) {
    try {
      work(depth);
    } catch (const std::runtime_error&) {
      ++work_done[0];
    }
  }
  dlclose(plugin);
  if (forget) forget_unwind_rules();
}

[[gnu::noinline]] void throw_from(unsigned depth) {
  const std::string text(20 + depth, 'x');
  if (depth == 0) throw std::runtime_error(text);
  throw_from(depth - 1);
}
[[gnu::noinline]] unsigned long recurse(unsigned depth) {
  volatile char room[48];
  room[depth % 48] = 1;
  return depth == 0 ? 1 : recurse(depth - 1) + static_cast<unsigned long>(room[depth % 48]);
}

struct Coroutine {
  ucontext_t outside;
  ucontext_t inside;
  std::vector<char> stack = std::vector<char>(96 << 10);
};
thread_local Coroutine* coroutine;
void coroutine_main() {
  for (;;) {
    recurse(50);
    swapcontext(&coroutine->inside, &coroutine->outside);
  }
}

void run(unsigned kind) {
  Pc here[64];
  const Stack stack = capture_stack(caller_frame(), here);
  outermost = here[stack.depth - 1];
  start_timer();
  Coroutine own;
  coroutine = &own;
  getcontext(&own.inside);
  own.inside.uc_stack.ss_sp = own.stack.data();
  own.inside.uc_stack.ss_size = own.stack.size();
  makecontext(&own.inside, coroutine_main, 0);
  for (unsigned i = 0; !stop.load(); ++i) {
    switch (kind) {
      case 0:
      case 1:
        load_and_unload(kind == 0);
        break;
      case 2:
        try {
          throw_from(i % 30);
        } catch (const std::runtime_error&) {
        }
        break;
      case 3:
        recurse(i % 3000);
        break;
      case 4:
        swapcontext(&own.outside, &own.inside);
        break;
      default:
        std::qsort(here, 64, sizeof(Pc),
                   [](const void* a, const void* b) { return std::memcmp(a, b, sizeof(Pc)); });
    }
    ++work_done[kind];
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  plugin_path = argv[1];
  const int seconds = argc > 2 ? std::atoi(argv[2]) : 5;
  struct sigaction action {};
  action.sa_sigaction = on_sample;
  action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  sigaction(SIGPROF, &action, nullptr);
  std::vector<std::thread> threads;
  for (unsigned kind = 0; kind < 6; ++kind) threads.emplace_back(run, kind);
  // The kernel's tick limits the timers; further signals arrive at any instruction, also of threads that
  // wait.
  const time_t end = time(nullptr) + seconds;
  for (unsigned i = 0; time(nullptr) < end; ++i) {
    pthread_kill(threads[i % threads.size()].native_handle(), SIGPROF);
    usleep(50);
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  std::printf(
      "samples %lu, compared %lu, incomplete %lu, truncated %lu, hinted %lu, wrong: %lu ids, %lu hashes, %lu "
      "ends, %lu stacks\n",
      samples.load(), compared.load(), incomplete.load(), truncated.load(), hinted.load(), wrong_id.load(),
      wrong_hash.load(), wrong_end.load(), wrong_stack.load());
  std::printf("work: dlopen %lu %lu, throw %lu, recurse %lu, swapcontext %lu, libc %lu\n",
              work_done[0].load(), work_done[1].load(), work_done[2].load(), work_done[3].load(),
              work_done[4].load(), work_done[5].load());
  return wrong_id + wrong_hash + wrong_end + wrong_stack == 0 && samples > 100 && compared > 10 ? 0 : 1;
}
