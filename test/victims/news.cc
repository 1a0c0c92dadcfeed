// Every form of operator new, each in a function of its own with a size of its own; "free" deletes all with
// the matching form. "million": 10^6 times new of 100 bytes, kept (each must count once, not again for the
// malloc underneath).
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "test/victims/kit.h"

namespace {

struct alignas(128) Wide {
  char bytes[1280];
};

void* held[8];
std::unique_ptr<std::vector<char>> held_vector;
void** million;

}  // namespace

extern "C" {

NOINLINE void via_new() {
  held[0] = ::operator new(2003);
  END_OF_FRAME();
}
NOINLINE void via_new_array() {
  held[1] = new char[2011];
  END_OF_FRAME();
}
NOINLINE void via_new_nothrow() {
  held[2] = ::operator new(2017, std::nothrow);
  END_OF_FRAME();
}
NOINLINE void via_new_array_nothrow() {
  held[3] = new (std::nothrow) char[2027];
  END_OF_FRAME();
}
NOINLINE void via_new_aligned() {
  held[4] = new Wide;
  END_OF_FRAME();
}
NOINLINE void via_new_array_aligned() {
  held[5] = ::operator new[](2029, std::align_val_t(256));
  END_OF_FRAME();
}
NOINLINE void via_vector() {
  held_vector = std::make_unique<std::vector<char>>(2039);
  END_OF_FRAME();
}
NOINLINE void too_much() {
  try {
    USE(::operator new(static_cast<std::size_t>(1) << 62));
    _exit(4);
  } catch (const std::bad_alloc&) {
    END_OF_FRAME();
  }
}

NOINLINE void make_million(std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) million[i] = ::operator new(100);
  END_OF_FRAME();
}

NOINLINE void delete_all() {
  ::operator delete(held[0]);
  delete[] static_cast<char*>(held[1]);
  ::operator delete(held[2], std::nothrow);
  delete[] static_cast<char*>(held[3]);
  delete static_cast<Wide*>(held[4]);
  ::operator delete[](held[5], std::align_val_t(256));
  held_vector.reset();
}

}  // extern "C"

int main() {
  via_new();
  via_new_array();
  via_new_nothrow();
  via_new_array_nothrow();
  via_new_aligned();
  via_new_array_aligned();
  via_vector();
  too_much();
  say("ready\n");
  char command[64];
  while (await_command(command, sizeof command)) {
    if (strcmp(command, "free") == 0) delete_all();
    if (strcmp(command, "million") == 0) {
      constexpr std::size_t kCount = 1000000;
      million = static_cast<void**>(std::calloc(kCount, sizeof(void*)));
      make_million(kCount);
    }
    say("done\n");
  }
}
