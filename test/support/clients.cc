#include "test/support/clients.h"

#include <cstdlib>
#include <utility>

#include "test/support/temp_dir.h"

namespace profagent::test {

std::string tool(const std::string& name) {
  return std::string(getenv("TOOL_DIR")) + "/" + name;  // NOLINT(concurrency-mt-unsafe)
}

Outcome client(const std::string& name, Arguments arguments) {
  const TempDir dir;
  arguments.insert(arguments.begin(), tool(name));
  return run(arguments, {{"PPROF_TMPDIR", dir.path()}});
}

Outcome go_pprof(Arguments arguments) {
  return client("go_pprof", std::move(arguments));
}

std::string rows_of(const std::string& top) {
  const std::size_t at = top.find("flat%");
  return at == std::string::npos ? "" : top.substr(top.find('\n', at) + 1);
}

}  // namespace profagent::test
