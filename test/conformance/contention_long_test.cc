// Large programs that need packages of their own (scripts/setup.sh long) and some time: `meson test --suite
// long`. Those that this machine lacks are left out with a warning.
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <regex>
#include <set>

#include <unistd.h>
#include <catch2/catch.hpp>

#include "test/support/contention.h"
#include "test/support/programs.h"

using namespace profagent::test;

namespace {

const std::vector<std::string> kNone;
constexpr const char* kRows = "2000";

// Of sysbench, with one of its loads.
Outcome bench(const Mariadb& mariadb, const std::string& load, const std::string& command) {
  return run({"sysbench", load, "--db-driver=mysql", "--mysql-socket=" + mariadb.socket(),
              "--mysql-user=root", "--mysql-db=sbtest", "--tables=1", std::string("--table-size=") + kRows,
              "--threads=16", "--time=5", command});
}

// Transactions per second; the load must have gone through.
double rate_of(const Outcome& load) {
  CAPTURE(load.out, load.err);
  CHECK(load.ok());
  CHECK(load.err.empty());
  std::smatch match;
  REQUIRE(std::regex_search(load.out, match, std::regex("transactions: .*\\(([0-9.]+) per sec")));
  return std::stod(match[1]);
}

}  // namespace

TEST_CASE("mariadb under sysbench: the mutexes that all connections want", "[programs]") {
  if (!Mariadb::is_installed() || !available("sysbench")) return;
  Mariadb mariadb;
  mariadb.start({});
  CHECK(mariadb.sql("create database sbtest").ok());
  CHECK(bench(mariadb, "oltp_point_select", "prepare").ok());
  CHECK(mariadb.shut_down().ok());

  const std::pair<const char*, Environment> kModes[] = {{"without the agent", {}},
                                                        {"loaded", mariadb.with_agent({})},
                                                        {"every wait", mariadb.with_agent(kEveryWait)}};
  std::string rates;
  for (const auto& [name, environment] : kModes) {
    mariadb.start(environment);
    for (const std::string load : {"oltp_point_select", "oltp_update_non_index"}) {
      CAPTURE(name, load);
      rates += load + ", " + name + ": " + std::to_string(std::lround(rate_of(bench(mariadb, load, "run")))) +
               "/s\n";
    }
    if (environment.count("PROFAGENT_BLOCK_PROFILE_RATE") == 1) {
      const Profile block = Profile::parse(http_get(mariadb.agent(), "/debug/pprof/block").body);
      const Profile mutex = Profile::parse(http_get(mariadb.agent(), "/debug/pprof/mutex").body);
      CHECK(broken_wait_rules(block) == kNone);
      CHECK(broken_wait_rules(mutex) == kNone);
      // With one table, those that guard its locks on its definition, and the cache of open tables.
      const std::set<std::string> hot = {"rw_pr_unlock", "MDL_map::find_or_insert", "tc_acquire_table",
                                         "close_thread_tables"};
      std::int64_t delay = 0;
      for (const Sample& sample : mutex.samples())
        for (const Frame& frame : sample.stack)
          if (hot.count(frame.name) == 1) {
            delay += sample.values[1];
            break;
          }
      CHECK(delay > delay_of(mutex.samples()) / 2);
      CHECK(top_of(of_kind(block, "mutex")).has("dispatch_command"));
      // InnoDB's own locks are futexes; connections without work wait for input.
      CHECK(delay_in(of_kind(block, "futex"), "dispatch_command") > 0);
      CHECK(top_of(of_kind(block, "io")).has("vio_io_wait"));
    }
    CHECK(mariadb.sql("check table sbtest.sbtest1").out == "sbtest.sbtest1\tcheck\tstatus\tOK\n");
    CHECK(mariadb.sql("select count(*) from sbtest.sbtest1").out == kRows + std::string("\n"));
    CHECK(mariadb.shut_down().ok());
  }
  WARN("one run each, compare with care:\n" << rates);
}

namespace {

// A compiler of the machine's, or one that rustup has brought; its shims need a home of its own.
std::string find_rustc() {
  if (access("/usr/bin/rustc", X_OK) == 0) return "/usr/bin/rustc";
  const char* home = getenv("HOME");  // NOLINT(concurrency-mt-unsafe)
  std::error_code error;
  const std::filesystem::path toolchains = std::string(home == nullptr ? "" : home) + "/.rustup/toolchains";
  for (const auto& toolchain : std::filesystem::directory_iterator(toolchains, error)) {
    const std::string compiler = toolchain.path().string() + "/bin/rustc";
    if (access(compiler.c_str(), X_OK) == 0) return compiler;
  }
  WARN("not installed: rustc");
  return "";
}

}  // namespace

TEST_CASE("rust: a std::sync::Mutex is a futex", "[programs]") {
  const std::string rustc = find_rustc();
  if (rustc.empty()) return;
  const TempDir dir;
  write_text(dir.file("ledger.rs"),
             "use std::{io::Read, sync::{Arc, Mutex}, thread, time::Duration};\n"
             "#[inline(never)] fn close_the_books(ledger: &Mutex<u64>) {\n"
             "    let mut sum = ledger.lock().unwrap();\n"
             "    thread::sleep(Duration::from_millis(5));\n"
             "    *sum += 1000;\n"
             "}\n"
             "#[inline(never)] fn book_one(ledger: &Mutex<u64>) {\n"
             "    *ledger.lock().unwrap() += 1;\n"
             "}\n"
             "fn main() {\n"
             "    let ledger = Arc::new(Mutex::new(0u64));\n"
             "    let threads: Vec<_> = (0..16).map(|n| {\n"
             "        let ledger = ledger.clone();\n"
             "        thread::spawn(move || for _ in 0..40 {\n"
             "            if n == 0 { close_the_books(&ledger) } else {\n"
             "                book_one(&ledger); thread::sleep(Duration::from_millis(1)) }\n"
             "        })\n"
             "    }).collect();\n"
             "    for thread in threads { thread.join().unwrap(); }\n"
             "    println!(\"{}\\nend\", ledger.lock().unwrap());\n"
             "    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();\n"
             "}\n");
  const Outcome compiled =
      run({rustc, "-g", "-C", "opt-level=1", "-o", dir.file("ledger"), dir.file("ledger.rs")});
  CAPTURE(compiled.err);
  REQUIRE(compiled.ok());
  Victim ledger(dir.file("ledger"), {}, kEveryWait, {.says_ready = false});
  REQUIRE(ledger.process().wait_for_output("end\n"));
  const Profile block = ledger.profile("/debug/pprof/block");
  CHECK(broken_wait_rules(block) == kNone);
  const std::vector<Sample> futexes = of_kind(block, "futex");
  const Sample top = top_of(futexes);
  CAPTURE(top.key());
  CHECK(top.has("ledger::book_one"));
  CHECK(top.stack.at(0).name == "syscall");
  // Who keeps the lock is where time passes under it.
  CHECK(delay_in(of_kind(block, "sleep"), "ledger::close_the_books") >= 40 * 5'000'000);
  const Outcome end = ledger.finish();
  CHECK(end.out == "40600\nend\n");
  CHECK(end.ok());
}
