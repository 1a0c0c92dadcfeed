// Time per frame of capture_stack(), beside a frame-pointer walk and libunwind, on stacks of 10, 50 and 200
// frames. Run by bench_unwind.sh, which builds it with and without frame pointers and counts instructions.
//
//   cold      nothing cached
//   warm      every rule cached, nothing remembered of earlier walks (the walk cache is held by us)
//   new       the same, with remembering: two stacks in turn that share no frame
//   repeated  the same stack again
//   leaf      the innermost three frames differ from walk to walk, the others do not
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <dlfcn.h>
#include <ucontext.h>

#include "agent/safe/unwind.h"
#include "agent/safe/walk_cache.h"

using profagent::safe::capture_stack;
using profagent::safe::Pc;
using profagent::safe::Stack;

namespace {

Pc pcs[512];
volatile unsigned long sink;

using Work = void (*)(unsigned rounds);

// Sixteen functions of different frame sizes, called through a pointer, so that nothing is inlined or
// predicted from a single return address.
using Frame = void (*)(unsigned depth, unsigned rounds, Work work);
extern const Frame kFrames[16];

template <int kIndex>
[[gnu::noinline]] void frame(unsigned depth, unsigned rounds, Work work) {
  volatile char room[8 + 24 * kIndex];
  room[0] = static_cast<char>(depth);
  if (depth == 0) {
    work(rounds);
  } else {
    kFrames[(depth * 7 + kIndex) % 16](depth - 1, rounds, work);
  }
  sink = sink + static_cast<unsigned long>(room[0]);
}
const Frame kFrames[16] = {frame<0>,  frame<1>,  frame<2>,  frame<3>, frame<4>,  frame<5>,
                           frame<6>,  frame<7>,  frame<8>,  frame<9>, frame<10>, frame<11>,
                           frame<12>, frame<13>, frame<14>, frame<15>};

[[gnu::noinline]] void capture(unsigned) {
  const Stack stack = capture_stack(profagent::safe::caller_frame(), pcs);
  sink = stack.hash + stack.depth;
}

[[gnu::noinline]] void by_frame_pointer(unsigned) {
  auto* at = static_cast<std::uintptr_t*>(__builtin_frame_address(0));
  unsigned depth = 0;
  while (at != nullptr && depth < 512) {
    auto* next = reinterpret_cast<std::uintptr_t*>(at[0]);
    pcs[depth++] = at[1];
    if (next <= at) break;
    at = next;
  }
  sink = depth;
}

int (*unw_backtrace)(void**, int);
[[gnu::noinline]] void by_libunwind(unsigned) {
  sink = static_cast<unsigned long>(unw_backtrace(reinterpret_cast<void**>(pcs), 512));
}

double now() {
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

double total;
Work measured;

[[gnu::noinline]] void loop(unsigned rounds) {
  const double begin = now();
  for (unsigned i = 0; i < rounds; ++i) measured(i);
  total = now() - begin;
}
[[gnu::noinline]] void loop_cold(unsigned rounds) {
  total = 0;
  for (unsigned i = 0; i < rounds; ++i) {
    profagent::safe::forget_unwind_rules();
    const double begin = now();
    capture(i);
    total += now() - begin;
  }
}
[[gnu::noinline]] void loop_leaf(unsigned rounds) {
  const double begin = now();
  for (unsigned i = 0; i < rounds; ++i) kFrames[i % 16](1 + i % 2, i, capture);
  total = now() - begin;
}

double best_of(unsigned depth, unsigned rounds, Work work) {
  double best = 1e300;
  for (int i = 0; i < 9; ++i) {
    kFrames[0](depth - 4, rounds, work);
    if (total / rounds < best) best = total / rounds;
  }
  return best;
}

// Two coroutines that capture in turn, on stacks of their own. Only the captures are timed, by the time-stamp
// counter.
ucontext_t main_context;
ucontext_t coroutines[2];
unsigned coroutine_rounds;
std::uint64_t ticks;

void coroutine_loop(unsigned me) {
  for (unsigned i = 0; i < coroutine_rounds; ++i) {
    const std::uint64_t begin = __builtin_ia32_rdtsc();
    measured(i);
    ticks += __builtin_ia32_rdtsc() - begin;
    swapcontext(&coroutines[me], &coroutines[1 - me]);
  }
}
void coroutine_main(int me, int depth) {
  kFrames[me](static_cast<unsigned>(depth) - 5, static_cast<unsigned>(me), coroutine_loop);
}
void nothing(unsigned) {}

std::uint64_t in_turn(unsigned depth, unsigned rounds, Work work) {
  static char stacks[2][1 << 18];
  measured = work;
  coroutine_rounds = rounds;
  ticks = 0;
  for (int me = 0; me < 2; ++me) {
    getcontext(&coroutines[me]);
    coroutines[me].uc_stack.ss_sp = stacks[me];
    coroutines[me].uc_stack.ss_size = sizeof stacks[me];
    coroutines[me].uc_link = &main_context;
    makecontext(&coroutines[me], reinterpret_cast<void (*)()>(coroutine_main), 2, me,
                static_cast<int>(depth));
  }
  swapcontext(&main_context, &coroutines[0]);
  return ticks;
}

double best_in_turn(unsigned depth, unsigned rounds) {
  const double begin = now();
  const std::uint64_t first = __builtin_ia32_rdtsc();
  double best = 1e300;
  for (int i = 0; i < 9; ++i) {
    const std::uint64_t empty = in_turn(depth, rounds, nothing);
    const std::uint64_t full = in_turn(depth, rounds, capture);
    const double time = static_cast<double>(full - empty) / (2 * rounds);
    if (time < best) best = time;
  }
  const double ticks_per_ns = static_cast<double>(__builtin_ia32_rdtsc() - first) / (now() - begin);
  return best / ticks_per_ns;
}

void hold_walk_caches(bool hold) {
  static profagent::safe::LeasedCache held[2];
  for (auto& lease : held) {
    if (hold) {
      lease = profagent::safe::lease_walk_cache();
    } else if (lease.cache != nullptr) {
      lease.cache->unlock();
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const bool frame_pointers = std::getenv("FRAME_POINTERS") != nullptr;
  if (argc == 4) {
    // For counting instructions: MODE DEPTH ROUNDS, twice; the first warms up.
    measured = std::strcmp(argv[1], "fp") == 0 ? by_frame_pointer : capture;
    if (std::strcmp(argv[1], "warm") == 0) hold_walk_caches(true);
    kFrames[0](static_cast<unsigned>(std::atoi(argv[2])) - 4, static_cast<unsigned>(std::atoi(argv[3])),
               loop);
    return 0;
  }
  void* library = dlopen("libunwind.so.8", RTLD_NOW | RTLD_LOCAL);
  if (library != nullptr)
    unw_backtrace = reinterpret_cast<int (*)(void**, int)>(dlsym(library, "unw_backtrace"));
  std::printf("%-6s %8s %8s %8s %8s %8s %8s %8s   ns for each frame\n", "depth", "cold", "warm", "new",
              "repeated", "leaf", "fp", "libunwind");
  for (const unsigned depth : {10U, 50U, 200U}) {
    const unsigned rounds = 200000 / depth;
    measured = capture;
    const double repeated = best_of(depth, rounds, loop);
    const double leaf = best_of(depth - 2, rounds, loop_leaf);
    const double cold = best_of(depth, 50, loop_cold);
    hold_walk_caches(true);
    const double warm = best_of(depth, rounds, loop);
    hold_walk_caches(false);
    const double fresh = best_in_turn(depth, rounds);
    measured = by_frame_pointer;
    const double fp = frame_pointers ? best_of(depth, rounds, loop) : 0;
    measured = by_libunwind;
    const double unw = unw_backtrace != nullptr ? best_of(depth, rounds, loop) : 0;
    std::printf("%-6u %8.2f %8.2f %8.2f %8.2f %8.2f %8.2f %8.2f", depth, cold / depth, warm / depth,
                fresh / depth, repeated / depth, leaf / depth, fp / depth, unw / depth);
    std::printf("   libunwind/warm %.1f, libunwind/repeated %.1f\n", unw / warm, unw / repeated);
  }
}
