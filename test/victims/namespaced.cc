// C++ names as profiles show them: namespaces, classes, templates, operators, lambdas, anonymous namespaces.
#include <cstdlib>
#include <string>

#include "test/victims/kit.h"

namespace shop {

struct Order {
  NOINLINE void add_item(int count) {
    USE(std::malloc(3000017));
    USE(count);
    END_OF_FRAME();
  }
  NOINLINE Order& operator+=(const std::string& name) {
    USE(std::malloc(3000029));
    USE(name.data());
    END_OF_FRAME();
    return *this;
  }
};

template <typename T>
NOINLINE void store(T value) {
  USE(std::malloc(3000047));
  USE(&value);
  END_OF_FRAME();
}

}  // namespace shop

namespace {

NOINLINE void hidden() {
  USE(std::malloc(3000061));
  END_OF_FRAME();
}

}  // namespace

int main() {
  shop::Order order;
  order.add_item(3);
  order += "a name";
  shop::store<long>(5);
  shop::store(std::string("text"));
  hidden();
  serve_until_end();
}
