// The loop that bench.py measures under one preloaded library or another.
//
//   alloc_bench PAIRS [DEPTH [THREADS [BYTES]]]
//
// Each thread makes PAIRS pairs of malloc(BYTES) and free, DEPTH calls below its start, and the program
// prints the nanoseconds per pair and thread. Two runs that differ in PAIRS only, under callgrind, give the
// instructions of one pair: start-up cancels out.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

// The compiler may drop an allocation that nobody looks at.
void look_at(void* block) {
  asm volatile("" : : "r"(block) : "memory");
}

void run_pairs(long pairs, std::size_t bytes) {
  for (long i = 0; i < pairs; ++i) {
    void* block = std::malloc(bytes);
    look_at(block);
    std::free(block);
  }
}

// Not a tail call, and not a loop in disguise: each level is a frame to walk.
[[gnu::noinline]] void descend(long depth, long pairs, std::size_t bytes) {
  if (depth > 0) {
    descend(depth - 1, pairs, bytes);
  } else {
    run_pairs(pairs, bytes);
  }
  asm volatile("" : : : "memory");
}

}  // namespace

int main(int count, char** arguments) {
  const auto number = [&](int index, long otherwise) {
    return count > index ? std::strtol(arguments[index], nullptr, 10) : otherwise;
  };
  const long pairs = number(1, 1000);
  const long depth = number(2, 0);
  const long threads = number(3, 1);
  const auto bytes = static_cast<std::size_t>(number(4, 64));

  const auto begin = std::chrono::steady_clock::now();
  if (threads == 1) {
    descend(depth, pairs, bytes);
  } else {
    std::vector<std::thread> workers;
    for (long i = 0; i < threads; ++i) workers.emplace_back(descend, depth, pairs, bytes);
    for (std::thread& worker : workers) worker.join();
  }
  const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - begin;
  std::printf("%.3f\n", spent.count() / static_cast<double>(pairs));
}
