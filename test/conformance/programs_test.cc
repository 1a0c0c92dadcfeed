// Real programs under the agent: the same output, errors and exit status as without, and their own functions
// in the profile. Programs that this machine lacks are left out with a warning.
#include <filesystem>
#include <regex>

#include <unistd.h>
#include <catch2/catch.hpp>

#include "test/support/programs.h"

using namespace profagent::test;

namespace {

const Environment kExact = {{"PROFAGENT_MEM_PROFILE_RATE", "1"}};

// Wrappers (sh, env, gcc, ...) would otherwise load the agent dormant, and prove nothing.
const Environment kEverything = {{"PROFAGENT_MEM_PROFILE_RATE", "1"}, {"PROFAGENT_PROGRAMS", "*"}};

void check_same(const Arguments& program, const std::string& input = {}) {
  CAPTURE(program);
  const Outcome alone = run(program, {}, input);
  const Outcome under = run_under_agent(program, kEverything, input);
  CHECK(under.exit_code == alone.exit_code);
  CHECK(under.signal == alone.signal);
  CHECK(under.out == alone.out);
  CHECK(under.err == alone.err);
}

bool has_function(const Profile& profile, const std::string& function) {
  return !profile.in(function).empty();
}

}  // namespace

TEST_CASE("small programs do the same with and without the agent", "[A14]") {
  check_same({"/bin/true"});
  check_same({"/bin/false"});
  check_same({"/bin/ls", "/usr"});
  check_same({"/bin/ls", "/no/such/file"});
  check_same({"/bin/sh", "-c", "echo out; echo err >&2; exit 42"});
  check_same({"/bin/bash", "-c", "for i in 1 2 3; do echo $i; done | sort -r; exit 3"});
  check_same({"/bin/sh", "-c", "kill -SEGV $$"});
  check_same({"/usr/bin/env", "printf", "%s\\n", "text"});
  check_same({"sort", "-n"}, "3\n1\n2");
  check_same({"sed", "s/a/b/g"}, "banana");
  check_same({"awk", "{ total += $1 } END { print total }"}, "1\n2\n3");
  check_same({"find", "/etc/apt"});
  check_same({"tar", "cf", "-", "-C", "/usr/share", "base-files", "--mtime=@0"});
  check_same({"gzip", "-9c", "/usr/bin/perl"});
  check_same({"xz", "-0c", "/bin/ls"});
}

TEST_CASE("interpreters do the same with and without the agent", "[A14]") {
  if (available("python3"))
    check_same({"/usr/bin/python3", "-c",
                "import json,re,subprocess,threading\n"
                "t=[threading.Thread(target=lambda: [str(i)*10 for i in range(10000)]) for _ in range(8)]\n"
                "[x.start() for x in t]; [x.join() for x in t]\n"
                "print(len(json.dumps(list(range(100000)))))\n"
                "print(subprocess.run(['echo','child'],capture_output=True).stdout)\n"
                "raise SystemExit(5)"});
  if (available("perl"))
    check_same(
        {"perl", "-e",
         "my %h = map { $_ => 'x' x $_ } 1..2000; print scalar(keys %h), qq(\\n); print sleep(1) >= 1, "
         "qq(\\n); die qq(end\\n)"});
  if (available("node"))
    check_same({"node", "-e",
                "const a=[];for(let "
                "i=0;i<1e5;i++)a.push({i,s:'x'.repeat(i%100)});console.log(a.length);console.error('err');"
                "process.exit(7)"});
  if (available("sqlite3"))
    check_same(
        {"sqlite3", ":memory:"},
        "create table t(a,b); with recursive n(i) as (select 1 union all select i+1 from n where i<20000)\n"
        "insert into t select i, hex(i*i) from n; create index x on t(b); select count(*), max(b) from t;\n"
        "select nosuch from t;");
}

TEST_CASE("compilers do the same with and without the agent", "[A14]") {
  if (!available("g++")) return;
  const TempDir dir;
  write_text(dir.file("a.cc"),
             "#include <map>\n#include <regex>\n#include <string>\nint main() { std::map<std::string, "
             "std::regex> m; return m.size(); }\n");
  write_text(dir.file("b.cc"), "int main() { return undeclared; }\n");
  check_same({"g++", "-std=c++20", "-O1", "-S", "-o", "-", dir.file("a.cc")});
  check_same({"g++", "-c", "-o", "/dev/null", dir.file("b.cc")});
}

TEST_CASE("programs that change who they are", "[A14]") {
  // An extra thread would abort the first and fail the second.
  if (geteuid() == 0 && available("setpriv"))
    check_same({"setpriv", "--reuid", "65534", "--clear-groups", "id", "-u"});
  if (available("unshare")) check_same({"unshare", "-Ur", "id", "-u"});
}

TEST_CASE("redis under load shows redis' own functions", "[programs]") {
  if (!available("redis-server") || !available("redis-benchmark")) return;
  const std::string port = std::to_string(free_port());
  // Debian's redis is linked with jemalloc dynamically: its malloc is the one behind ours.
  Victim redis("redis-server", {"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"},
               {{"PROFAGENT_MEM_PROFILE_RATE", "8192"}});
  REQUIRE(eventually([&] { return can_connect(Address::tcp(static_cast<std::uint16_t>(std::stoi(port)))); }));
  const Outcome load = run({"redis-benchmark", "-p", port, "-n", "50000", "-r", "50000", "-d", "200", "-t",
                            "set,lpush,hset", "-q"});
  CHECK(load.ok());
  const Profile heap = redis.profile();
  for (const char* function : {"main", "aeMain", "processCommand", "call"})
    CHECK(has_function(heap, function));
  CHECK(heap.total("inuse_space").in("setCommand") > 1000000);
  // Nearly every byte in use hangs below main().
  CHECK(heap.total("inuse_space").in("main") > heap.total("inuse_space").all() / 2);
  const Outcome cli = run({"redis-cli", "-p", port, "dbsize"});
  CHECK(std::stol(cli.out) > 1000);
}

TEST_CASE("node's profile has V8's functions", "[programs]") {
  if (!available("node")) return;
  Victim node(
      "node",
      {"-e",
       "globalThis.kept=[];for(let "
       "i=0;i<300;i++)kept.push(Buffer.alloc(100000,i));console.log('full');setInterval(()=>{},1000)"},
      {{"PROFAGENT_MEM_PROFILE_RATE", "65536"}});
  REQUIRE(node.process().wait_for_output("full\n"));
  const Profile heap = node.profile();
  CHECK(heap.total("inuse_space").all() > 10000000);
  bool v8 = false;
  for (const Sample& sample : heap.samples())
    for (const Frame& frame : sample.stack)
      v8 = v8 || frame.name.rfind("v8::", 0) == 0 || frame.name.rfind("node::", 0) == 0;
  CHECK(v8);
}

TEST_CASE("python's profile has the interpreter's functions", "[programs]") {
  if (!available("python3")) return;
  Victim python("/usr/bin/python3",
                {"-c",
                 "kept=[bytearray(100003) for _ in range(100)]\nprint('full',flush=True)\nimport "
                 "sys\nsys.stdin.read()"},
                kExact, {.says_ready = false});
  REQUIRE(python.process().wait_for_output("full\n"));
  const Profile heap = python.profile();
  CHECK(heap.total("inuse_space").in("Py_BytesMain") > 100 * 100003);
}

TEST_CASE("sqlite's profile has its functions", "[programs]") {
  if (!available("sqlite3")) return;
  Victim sqlite("sqlite3", {":memory:"}, kExact);
  sqlite.process().tell(
      "create table t(a); with recursive n(i) as (select 1 union all select i+1 from n where i<20000) insert "
      "into t select "
      "hex(randomblob(50)) from n; select 'full';");
  REQUIRE(sqlite.process().wait_for_output("full\n"));
  const Profile heap = sqlite.profile();
  CHECK(heap.total("inuse_space").all() > 1000000);
  CHECK(has_function(heap, "sqlite3_step"));
  CHECK(sqlite.finish().ok());
}

TEST_CASE("nginx serves, and its workers have profiles of their own", "[programs]") {
  if (!available("nginx")) return;
  const TempDir dir;
  const std::string port = std::to_string(free_port());
  std::filesystem::create_directories(dir.file("logs"));
  write_text(dir.file("index.html"), "hello from nginx\n");
  write_text(dir.file("nginx.conf"),
             "daemon off; master_process on; worker_processes 2; pid " + dir.file("pid") + "; error_log " +
                 dir.file("logs/error.log") + ";\n" + (geteuid() == 0 ? "user root;\n" : "") +
                 "events { worker_connections 64; }\nhttp { access_log off; client_body_temp_path " +
                 dir.file("a") + "; proxy_temp_path " + dir.file("b") + "; fastcgi_temp_path " +
                 dir.file("c") + "; uwsgi_temp_path " + dir.file("d") + "; scgi_temp_path " + dir.file("e") +
                 "; server { listen 127.0.0.1:" + port + "; root " + dir.path() + "; } }\n");
  Victim nginx("nginx", {"-c", dir.file("nginx.conf"), "-p", dir.path(), "-e", dir.file("logs/error.log")},
               kExact);
  const Address address = Address::tcp(static_cast<std::uint16_t>(std::stoi(port)));
  REQUIRE(eventually([&] { return can_connect(address); }));
  for (int i = 0; i < 50; ++i) CHECK(http_get(address, "/index.html").body == "hello from nginx\n");
  CHECK(has_function(nginx.profile(), "main"));
  // Master and two workers: three sockets in the folder.
  const std::filesystem::path folder = std::filesystem::path(nginx.socket_path()).parent_path();
  const auto sockets = [&] {
    return std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator());
  };
  CHECK(eventually([&] { return sockets() >= 3; }, std::chrono::seconds(20)));
  nginx.process().signal(3);  // SIGQUIT: in good order, workers too
  const Outcome end = nginx.finish();
  CHECK(end.ok());
  CHECK(end.err.empty());
}

TEST_CASE("postgres answers queries, and its backends do not disturb each other", "[programs]") {
  if (!Postgres::is_installed()) return;
  Postgres postgres(Environment{{"PROFAGENT_MEM_PROFILE_RATE", "4096"}});
  CHECK(postgres
            .sql("create table t as select g, md5(g::text) m from generate_series(1,20000) g; select "
                 "count(distinct m) from t")
            .out == "SELECT 20000\n20000\n");
  CHECK(postgres.sql("select nosuch").exit_code == 1);
  const Address address = postgres.address(postgres.pid());
  REQUIRE(eventually([&] { return can_connect(address); }));
  const Profile heap = Profile::parse(http_get(address, "/debug/pprof/heap").body);
  CHECK(has_function(heap, "main"));
  CHECK(postgres.shut_down().ok());
}
