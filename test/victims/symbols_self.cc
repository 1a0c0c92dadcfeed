// Names its own functions; built position-independent and not.
#include <cstdint>
#include <cstdio>

#include "agent/service/symbols.h"

namespace victim {

struct Worker {
  [[gnu::noinline]] static int run(int x) { return x + 41; }
};

}  // namespace victim

int main() {
  using namespace profagent::service;
  const ModuleSet modules = ModuleSet::now({});
  Symbolizer symbolizer;
  const std::uintptr_t pc = reinterpret_cast<std::uintptr_t>(&victim::Worker::run) + 1;
  const ResolvedPc answer = symbolizer.resolve(modules, {&pc, 1}).front();
  std::printf("%s %s %d\n", answer.symbol->name.c_str(), answer.symbol->system_name.c_str(),
              answer.module == &modules.modules().front());
  return 0;
}
