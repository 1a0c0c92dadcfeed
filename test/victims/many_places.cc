// Keeps a block from each of many places, in functions of their own with two inlined ones.
#include <array>
#include <cstdlib>
#include <utility>

#include "test/victims/kit.h"

namespace places {

constexpr std::size_t kPlaces = 4096;

template <std::size_t Place>
struct Shelf {
  [[gnu::always_inline]] void* make_room() { return std::malloc(64 + Place % 7); }
  [[gnu::always_inline]] void put() { USE(make_room()); }
};

template <std::size_t Place>
NOINLINE void fill() {
  Shelf<Place> shelf;
  shelf.put();
  END_OF_FRAME();
}

template <std::size_t... Places>
void fill_all(std::index_sequence<Places...>) {
  (fill<Places>(), ...);
}

}  // namespace places

int main() {
  places::fill_all(std::make_index_sequence<places::kPlaces>());
  serve_until_end();
}
