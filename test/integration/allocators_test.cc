// Rows A2, C1, C2, I1, B11 of the fault table: programs that bring an allocator of their own, in every order.
#include <filesystem>

#include <unistd.h>
#include <catch2/catch.hpp>

#include "test/support/victim.h"

using namespace profagent::test;

namespace {

const Environment kExact = {{"PROFAGENT_MEM_PROFILE_RATE", "1"}};

// Debian's allocators, as far as this machine has them.
std::vector<std::string> allocators() {
  std::vector<std::string> found;
  for (const char* name :
       {"libjemalloc.so.2", "libtcmalloc.so.4", "libtcmalloc_minimal.so.4", "libmimalloc.so.2"}) {
    const std::string path = std::string("/usr/lib/x86_64-linux-gnu/") + name;
    if (std::filesystem::exists(path)) found.push_back(path);
  }
  return found;
}

bool has_victim(const std::string& name) {
  if (access(victim_path(name).c_str(), X_OK) == 0) return true;
  WARN("not built on this machine: " << name);
  return false;
}

// The profile is valid and empty, and says in words why, in its comment and on the index.
void check_unavailable(Victim& victim, const std::string& why) {
  CAPTURE(why);
  const Profile heap = victim.profile();
  CHECK(heap.types().size() == 4);
  CHECK(heap.samples().empty());
  std::string comments;
  for (const std::string& comment : heap.comments()) comments += comment + "\n";
  CHECK(comments.find("heap profile unavailable") != std::string::npos);
  CHECK(comments.find(why) != std::string::npos);
  const std::string index = victim.get("/debug/pprof/").body;
  CHECK(index.find("heap profile unavailable") != std::string::npos);
  CHECK(victim.get("/debug/pprof/heap?debug=1").status == 200);
}

}  // namespace

TEST_CASE("an allocator preloaded after the agent stays in charge, and is profiled", "[A2][C2]") {
  for (const std::string& allocator : allocators()) {
    CAPTURE(allocator);
    Victim victim("family", {"--portable"}, kExact, {.preload = "@ " + allocator});
    const Profile heap = victim.profile();
    CHECK(heap.total("inuse_space").in("via_malloc") == 1009);
    CHECK(heap.total("inuse_space").in("via_memalign") == 1033);
    CHECK(heap.total("inuse_space").in("via_realloc_grow") == 100003);
    CHECK(heap.total("inuse_objects").in("main") == 14);
    victim.command("free");
    CHECK(victim.profile().total("inuse_objects").in("main") == 0);
    CHECK(victim.finish().ok());
  }
}

TEST_CASE("an allocator preloaded before the agent hides it, and that is said", "[A2][C1][C2]") {
  for (const std::string& allocator : allocators()) {
    CAPTURE(allocator);
    Victim victim("leak", {}, kExact, {.preload = allocator + " @"});
    check_unavailable(victim, std::filesystem::path(allocator).filename());
    CHECK(victim.finish().ok());
  }
}

TEST_CASE("starting with another allocator never hangs", "[A2]") {
  for (const std::string& allocator : allocators()) {
    for (int start = 0; start < 10; ++start) {
      const TempDir dir;
      const std::string preload =
          start % 2 == 0 ? agent_path() + " " + allocator : allocator + " " + agent_path();
      const Outcome outcome =
          run({"/bin/echo", "ok"}, agent_environment(dir.path(), {{"LD_PRELOAD", preload}}), {},
              std::chrono::seconds(20));
      CAPTURE(preload, outcome.err);
      CHECK_FALSE(outcome.timed_out);
      CHECK(outcome.out == "ok\n");
    }
  }
}

TEST_CASE("an executable that defines malloc is reported, not half-profiled", "[C1]") {
  Victim victim("own_malloc", {}, kExact);
  check_unavailable(victim, "the executable");
  CHECK(victim.finish().ok());
}

TEST_CASE("a statically linked jemalloc is reported, not half-profiled", "[C1]") {
  if (!has_victim("simple_jemalloc")) return;
  Victim victim("simple_jemalloc", {}, kExact);
  check_unavailable(victim, "the executable");
  CHECK(victim.finish().ok());
}

TEST_CASE("clang's AddressSanitizer programs run and are reported", "[C1][I1]") {
  if (!has_victim("simple_address_clang")) return;
  Victim victim("simple_address_clang", {}, kExact);
  check_unavailable(victim, "AddressSanitizer");
  const Outcome end = victim.finish();
  CHECK(end.ok());
  CHECK(end.err.empty());
}

TEST_CASE("gcc's AddressSanitizer programs run when its library comes first, as with any preload", "[I1]") {
  if (!has_victim("simple_address_gcc")) return;
  const std::string runtime = run({"gcc", "-print-file-name=libasan.so"}).out;
  REQUIRE_FALSE(runtime.empty());
  const std::string library = std::filesystem::canonical(runtime.substr(0, runtime.size() - 1));
  Victim victim("simple_address_gcc", {}, kExact, {.preload = library + " @"});
  check_unavailable(victim, "AddressSanitizer");
  const Outcome end = victim.finish();
  CHECK(end.ok());
  CHECK(end.err.empty());
}

TEST_CASE("gcc's ThreadSanitizer programs run and are reported", "[I1]") {
  if (!has_victim("simple_thread_gcc")) return;
  const Outcome alone = run_victim_alone("simple_thread_gcc");
  if (!alone.ok()) {
    WARN("ThreadSanitizer does not run on this kernel: " << alone.err.substr(0, 200));
    return;
  }
  const Outcome under = run_victim("simple_thread_gcc");
  CHECK(under.out == alone.out);
  CHECK(under.exit_code == alone.exit_code);
}

TEST_CASE("jemalloc's own interface counts like malloc's", "[C3]") {
  if (!has_victim("mallocx_user")) return;
  Victim victim("mallocx_user", {}, kExact);
  const Profile heap = victim.profile();
  CHECK(heap.total("inuse_space").in("via_mallocx") == 1999993);
  CHECK(heap.total("inuse_space").in("via_rallocx") == 2999999);
  CHECK(heap.total("inuse_space").in("before_rallocx") == 0);
  CHECK(heap.total("inuse_space").in("via_plain_malloc") == 1999957);
  victim.command("free");
  CHECK(victim.profile().total("inuse_space").in("main") == 0);
  CHECK(victim.finish().ok());
}

TEST_CASE("a plugin that binds to libc directly may free our blocks and we its", "[B11]") {
  Victim victim("deepbind", {}, kExact);
  CHECK(victim.process().out() == "ready\n");
  // Not seen to be freed: an address that comes again replaces the old record, it never counts twice.
  CHECK(victim.profile().total("inuse_objects").in("main") <= 1001);
  CHECK(victim.finish().ok());
}
