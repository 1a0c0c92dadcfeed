// Two threads exchange blocks of one size class through slots: each frees what the other allocated, so that
// an address is free for a moment only and comes back at once in the other thread. At the end exactly
// `kSlots` blocks live, all of ping's or pong's making, as the model (the slots) says: "live PING PONG".
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "test/victims/kit.h"

namespace {

constexpr int kSlots = 8;
constexpr std::size_t kSize = 96;
std::atomic<void*> slots[kSlots];

// The first byte says whose block it is.
void exchange(char* block, char owner, int slot) {
  *block = owner;
  std::free(slots[slot].exchange(block));
}

}  // namespace

extern "C" {

NOINLINE void ping(int rounds) {
  for (int i = 0; i < rounds; ++i) exchange(static_cast<char*>(std::malloc(kSize)), 'i', i % kSlots);
  END_OF_FRAME();
}

NOINLINE void pong(int rounds) {
  for (int i = 0; i < rounds; ++i) exchange(static_cast<char*>(std::malloc(kSize)), 'o', i % kSlots);
  END_OF_FRAME();
}

}  // extern "C"

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 1000000;
  std::thread first(ping, rounds);
  std::thread second(pong, rounds);
  first.join();
  second.join();
  int pings = 0;
  int pongs = 0;
  for (const std::atomic<void*>& slot : slots) {
    if (slot.load() == nullptr) continue;
    ++(*static_cast<char*>(slot.load()) == 'i' ? pings : pongs);
  }
  char line[64];
  std::snprintf(line, sizeof line, "live %d %d\n", pings, pongs);
  say(line);
  serve_until_end();
}
