// Programs that keep their threads waiting, with every wait recorded all the time: they must do what they do
// without us, and what they wait for must be at the top of the profiles. Programs that this machine lacks are
// left out with a warning; servers are in contention_servers_test.cc.
#include <set>

#include <catch2/catch.hpp>

#include "test/support/contention.h"
#include "test/support/measured.h"
#include "test/support/programs.h"

using namespace profagent::test;

namespace {

const std::vector<std::string> kNone;

// A program that says "end" when it has done its work, and ends when its input does. With the agent it has to
// do the same as without; `look` asks it for profiles between the two.
template <typename Look>
void check_same(Arguments program, Look look) {
  CAPTURE(program);
  const Outcome alone = run(program);
  CHECK(alone.out.find("end\n") != std::string::npos);
  const std::string name = program.front();
  program.erase(program.begin());
  Victim under(name, program, kEveryWait, {.says_ready = false});
  REQUIRE(under.process().wait_for_output("end\n"));
  const Profile block = under.profile("/debug/pprof/block");
  const Profile mutex = under.profile("/debug/pprof/mutex");
  CHECK(broken_wait_rules(block) == kNone);
  CHECK(broken_wait_rules(mutex) == kNone);
  look(block, mutex);
  const Outcome end = under.finish();
  CHECK(end.exit_code == alone.exit_code);
  CHECK(end.signal == alone.signal);
  CHECK(end.out == alone.out);
  CHECK(end.err == alone.err);
}

// Everybody has waited, and several exports are over.
void await_exports(Victim& victim) {
  REQUIRE(eventually([&] {
    const Profile mutex = victim.profile("/debug/pprof/mutex");
    return mutex.total("contentions").in("shop::ConnectionPool::give_back_clean") >= 20;
  }));
}

}  // namespace

TEST_CASE("two hundred threads starve on a pool of four connections") {
  Victim victim("connection_pool", {}, kEveryWait);
  await_exports(victim);
  const Profile block = victim.profile("/debug/pprof/block");
  CHECK(broken_wait_rules(block) == kNone);
  // They wait for connections, in the pool.
  const std::vector<Sample> starving = of_kind(block, "cond");
  CHECK(delay_in(starving, "shop::ConnectionPool::take") == delay_of(starving));
  CHECK(top_of(starving).has("shop::look_up"));
  CHECK(delay_of(starving) > delay_of(of_kind(block, "mutex")));
  // Who keeps the connections is where time passes that is neither.
  CHECK(top_of(of_kind(block, "sleep")).has("shop::export_report"));
  // Who keeps the lock, once everybody is there: while 200 threads start, who is preempted with it has them
  // all behind it.
  const Profile mutex = victim.profile("/debug/pprof/mutex?seconds=3");
  CHECK(broken_wait_rules(mutex) == kNone);
  const Sample culprit = top_of(mutex.samples());
  CAPTURE(culprit.key());
  CHECK(culprit.has("shop::ConnectionPool::give_back_clean"));
  CHECK(culprit.has("shop::export_report"));
}

TEST_CASE("waiters for the pool's lock say who held it") {
  Victim victim("connection_pool", {}, kEveryWait);
  await_exports(victim);
  const Profile block = victim.profile("/debug/pprof/block?seconds=2&rate=1&labels=holder");
  CHECK(broken_wait_rules(block) == kNone);
  std::set<std::string> holders;
  for (const Sample& sample : of_kind(block, "mutex"))
    if (sample.labels.count("holder") == 1) holders.insert(sample.labels.at("holder"));
  CHECK(holders.count("shop::ConnectionPool::give_back_clean") == 1);
  CHECK(top_label(of_kind(block, "mutex"), "holder") == "shop::ConnectionPool::give_back_clean");
  // Only who takes and gives back has it.
  for (const std::string& holder : holders) CHECK(holder.rfind("shop::ConnectionPool::", 0) == 0);
}

TEST_CASE("what C++20 waits in is a futex, under the function that waits") {
  Victim victim("cpp20_waits", {}, kEveryWait);
  const Profile block = victim.profile("/debug/pprof/block");
  CHECK(broken_wait_rules(block) == kNone);
  const std::vector<Sample> futexes = of_kind(block, "futex");
  const auto waits = measured(victim.process().out());
  REQUIRE(waits.size() == 3);
  for (const auto& [function, bounds] : waits) {
    CAPTURE(function);
    CHECK(delay_in(futexes, function) >= bounds.least);
    CHECK(delay_in(futexes, function) <= bounds.most);
    CHECK(block.total("delay").in(function) == delay_in(futexes, function));
  }
  for (const Sample& sample : futexes) {
    CAPTURE(sample.key());
    CHECK(sample.stack[0].name == "syscall");
    CHECK(sample.has("work"));
    CHECK(sample.stack.back().name == "clone3");
  }
  // Nobody has held anything.
  CHECK(victim.profile("/debug/pprof/mutex").samples().empty());
}

TEST_CASE("java: synchronized and ReentrantLock, fifty threads", "[programs]") {
  if (!available("java") || !available("javac")) return;
  const TempDir dir;
  write_text(dir.file("Bank.java"),
             "import java.util.concurrent.locks.ReentrantLock;\n"
             "public class Bank {\n"
             "  static final Object monitor = new Object();\n"
             "  static final ReentrantLock lock = new ReentrantLock();\n"
             "  static long transfers, audits;\n"
             "  static void pause() {\n"
             "    try { Thread.sleep(1); } catch (InterruptedException e) { throw new Error(e); }\n"
             "  }\n"
             "  static void transfer() { synchronized (monitor) { ++transfers; pause(); } }\n"
             "  static void audit() { lock.lock(); try { ++audits; pause(); } finally { lock.unlock(); } }\n"
             "  public static void main(String[] a) throws Exception {\n"
             "    Thread[] all = new Thread[50];\n"
             "    for (int t = 0; t < 50; ++t) {\n"
             "      all[t] = new Thread(() -> { for (int i = 0; i < 10; ++i) { transfer(); audit(); } });\n"
             "      all[t].start();\n"
             "    }\n"
             "    for (Thread t : all) t.join();\n"
             "    System.out.println(transfers + \" \" + audits);\n"
             "    System.out.println(\"end\");\n"
             "    while (System.in.read() >= 0) {}\n"
             "    System.exit(5);\n  }\n}\n");
  REQUIRE(run({"javac", "-d", dir.path(), dir.file("Bank.java")}).ok());
  check_same({"java", "-cp", dir.path(), "Bank"}, [](const Profile& block, const Profile& mutex) {
    // The frames of its own are compiled while it runs and have no names; those of the virtual machine below
    // them tell the two apart.
    std::vector<Sample> threads;
    for (const Sample& sample : of_kind(block, "cond"))
      if (sample.has("thread_entry")) threads.push_back(sample);
    CHECK(delay_in(threads, "ObjectMonitor::enter") > 0);
    CHECK(delay_in(threads, "Unsafe_Park") > 0);
    // They are where the threads wait, but for the pauses.
    const std::int64_t pauses = delay_in(threads, "JVM_Sleep");
    CHECK(delay_in(threads, "ObjectMonitor::enter") + delay_in(threads, "Unsafe_Park") >
          (delay_of(threads) - pauses) / 2);
    for (const Sample& sample : mutex.samples()) CHECK(sample.stack.size() > 1);
  });
}

TEST_CASE("python: threads wait for the interpreter's lock, and for one of their own", "[programs]") {
  if (!available("python3")) return;
  check_same({"/usr/bin/python3", "-c",
              "import sys, threading, time\n"
              "sys.setswitchinterval(1e-4)\n"
              "lock = threading.Lock()\n"
              "total = 0\n"
              "def work():\n"
              "    global total\n"
              "    for i in range(20):\n"
              "        part = sum(j * j for j in range(3000))\n"
              "        with lock:\n"
              "            time.sleep(0.001)\n"
              "            total += part\n"
              "threads = [threading.Thread(target=work) for _ in range(16)]\n"
              "[t.start() for t in threads]; [t.join() for t in threads]\n"
              "print(total); print('end', flush=True)\n"
              "sys.stdin.read()\n"
              "raise SystemExit(5)\n"},
             [](const Profile& block, const Profile&) {
               // take_gil() is no exported name; its callers are.
               const std::vector<Sample> interpreter = of_kind(block, "cond");
               CHECK(delay_in(interpreter, "PyEval_RestoreThread") > 0);
               CHECK(delay_in(interpreter, "_PyEval_EvalFrameDefault") > delay_of(interpreter) / 2);
               const std::vector<Sample> own = of_kind(block, "semaphore");
               CHECK(top_of(own).has("PyThread_acquire_lock_timed"));
               CHECK(delay_in(own, "PyThread_acquire_lock_timed") > delay_of(own) / 2);
             });
}

TEST_CASE("node: its workers wait for work", "[programs]") {
  if (!available("node")) return;
  check_same({"node", "-e",
              "const c = require('crypto');\n"
              "let left = 64, sum = 0;\n"
              "for (let i = 0; i < 64; i++)\n"
              "  c.pbkdf2('secret', 'salt' + i, 3000, 32, 'sha256', (e, k) => {\n"
              "    sum += k[0]; if (--left == 0) { console.log(sum); console.log('end'); } });\n"
              "process.exitCode = 7;\n"
              "process.stdin.resume();\n"},
             [](const Profile& block, const Profile& mutex) {
               const std::vector<Sample> workers = of_kind(block, "cond");
               CHECK(delay_in(workers, "uv_cond_wait") > delay_of(workers) / 2);
               CHECK(delay_in(of_kind(block, "io"), "uv__io_poll") > 0);
               for (const Sample& sample : mutex.samples()) CHECK(sample.stack.size() > 1);
             });
}
