// A program that does a fixed amount of work, for bench_cpu.py, which tells it by its standard input:
//
//   work UNITS THREADS   prints the CPU time of the threads, and of the process by getrusage, in nanoseconds
//   start FILE           gperftools' profiler, at the rate that CPUPROFILE_FREQUENCY says
//   stop
//
// A unit is some tens of microseconds, about 50 frames deep, of which the innermost twenty differ.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <thread>
#include <vector>

#include <dlfcn.h>
#include <sys/resource.h>

#include "test/bench/deep_stack.h"

namespace {

constexpr unsigned kLevels = 44;
constexpr unsigned kSharedAbove = 20;
constexpr int kSteps = 20000;

void burn(void* state) {
  auto& number = *static_cast<std::uint64_t*>(state);
  for (int i = 0; i < kSteps; ++i) number = number * 6364136223846793005U + 1442695040888963407U;
}

std::int64_t thread_nanos() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec * 1'000'000'000L + time.tv_nsec;
}

std::int64_t process_nanos() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1'000'000'000L +
         (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000L;
}

void work(long units, std::int64_t& used) {
  const std::int64_t begin = thread_nanos();
  std::uint64_t state = 1;
  for (long i = 0; i < units; ++i) {
    deep_stack::descend(kLevels, {static_cast<std::uint32_t>(i), kSharedAbove, burn, &state});
  }
  volatile std::uint64_t sink = state;
  static_cast<void>(sink);
  used = thread_nanos() - begin;
}

void work_in_threads(long units, long threads) {
  const std::int64_t begin = process_nanos();
  std::vector<std::int64_t> used(static_cast<std::size_t>(threads));
  if (threads == 1) {
    work(units, used[0]);
  } else {
    std::vector<std::thread> workers;
    for (std::int64_t& mine : used) workers.emplace_back([&mine, units] { work(units, mine); });
    for (std::thread& worker : workers) worker.join();
  }
  std::int64_t sum = 0;
  for (const std::int64_t mine : used) sum += mine;
  std::printf("%ld %ld\n", static_cast<long>(sum), static_cast<long>(process_nanos() - begin));
}

void* gperftools(const char* function) {
  void* library = dlopen("libprofiler.so.0", RTLD_NOW);
  return library == nullptr ? nullptr : dlsym(library, function);
}

}  // namespace

int main() {
  // Loaded from the start: what it costs while it does nothing is in both of the halves that are compared.
  if (std::getenv("CPUPROFILE_FREQUENCY") != nullptr) gperftools("ProfilerStart");
  char line[512];
  while (std::fgets(line, sizeof line, stdin) != nullptr) {
    long units = 0;
    long threads = 0;
    char file[500];
    if (std::sscanf(line, "work %ld %ld", &units, &threads) == 2) {
      work_in_threads(units, threads);
    } else if (std::sscanf(line, "start %499s", file) == 1) {
      auto* start = reinterpret_cast<int (*)(const char*)>(gperftools("ProfilerStart"));
      std::printf("%d\n", start == nullptr ? 0 : start(file));
    } else if (std::strncmp(line, "stop", 4) == 0) {
      auto* stop = reinterpret_cast<void (*)()>(gperftools("ProfilerStop"));
      if (stop != nullptr) stop();
      std::printf("1\n");
    }
    std::fflush(stdout);
  }
}
