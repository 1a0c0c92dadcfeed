// The clients that people use, as they are: `go tool pprof`, google/pprof, curl, and what one does with them.
#include <regex>

#include <catch2/catch.hpp>

#include "test/support/clients.h"
#include "test/support/victim.h"

using namespace profagent::test;

namespace {

const Environment kExact = {{"PROFAGENT_MEM_PROFILE_RATE", "1"}};

std::string weblist(const char* program, const std::string& functions, const std::string& profile) {
  const TempDir dir;
  const std::string page = dir.file("page.html");
  const Outcome outcome = client(program, {"-weblist=" + functions, "-output=" + page, profile});
  CAPTURE(program, outcome.err);
  CHECK(outcome.ok());
  return read_text(page);
}

// Of the victim `lines`.
void check_listings(Victim& victim) {
  const TempDir dir;
  const std::string heap = dir.file("heap.pb.gz");
  write_text(heap, victim.get("/debug/pprof/heap").body);
  for (const char* program : {"go_pprof", "pprof"}) {
    const Outcome list = client(program, {"-list=Shelf|fill", "-unit=B", heap});
    CAPTURE(program, list.out, list.err);
    CHECK(list.ok());
    const auto has = [&](const char* line) { return std::regex_search(list.out, std::regex(line)); };
    CHECK(has("ROUTINE =+ shop::fill in /\\S+/lines\\.cc\n"));
    CHECK(has("\n +3000017B +3000017B +\\d+: [^\n]*// make_room: malloc\n"));
    CHECK(has("\n +\\. +3000017B +\\d+: [^\n]*// put: make_room\n"));
    CHECK(has("\n +\\. +3000017B +\\d+: [^\n]*// fill: put\n"));
  }
  // Go's reads it from the binary and takes other names there: see below.
  const std::string page = weblist("pprof", "Shelf|fill", heap);
  for (const char* line : {"// make_room: malloc", "// put: make_room", "// fill: put"})
    CHECK(page.find(line) != std::string::npos);
}

}  // namespace

TEST_CASE("pprof -top names the type and the functions", "[M01][M02]") {
  Victim victim("leak", {"--times", "2"}, kExact);
  const Outcome heap = go_pprof({"-top", "-unit=B", victim.url("/debug/pprof/heap")});
  CHECK(heap.out.find("File: leak\n") != std::string::npos);
  CHECK(heap.out.find("Type: inuse_space\n") != std::string::npos);
  CHECK(std::regex_search(rows_of(heap.out),
                          std::regex("^\\s*3999986B\\s+\\S+\\s+\\S+\\s+3999986B\\s+\\S+\\s+leaky\n")));
  const Outcome allocs = go_pprof({"-top", "-unit=B", victim.url("/debug/pprof/allocs")});
  CHECK(allocs.out.find("Type: alloc_space\n") != std::string::npos);
  CHECK(std::regex_search(rows_of(allocs.out),
                          std::regex("^\\s*4000006B\\s+\\S+\\s+\\S+\\s+4000006B\\s+\\S+\\s+tidy\n")));
  const Outcome traces = go_pprof({"-traces", victim.url("/debug/pprof/heap")});
  CHECK(traces.ok());
  CHECK(std::regex_search(traces.out, std::regex("bytes:  1.91MB\n\\s+3.81MB   leaky\n\\s+main\n")));
}

TEST_CASE("Go's pprof and google/pprof print the same names, with and without the binary", "[V10]") {
  const TempDir dir;
  const std::string copy = dir.file("copied");
  REQUIRE(run({"cp", victim_path("namespaced"), copy}).ok());
  Victim victim(copy, {}, kExact);
  const std::string file = dir.file("heap.pb.gz");
  write_text(file, victim.get("/debug/pprof/heap").body);
  const auto names = [&](const char* program) {
    return rows_of(client(program, {"-top", "-nodefraction=0", file}).out);
  };
  const std::string with_binary = names("go_pprof");
  CHECK(with_binary.find("shop::Order::add_item\n") != std::string::npos);
  CHECK(with_binary.find("shop::store\n") != std::string::npos);
  CHECK(names("pprof") == with_binary);
  REQUIRE(run({"mv", copy, dir.file("moved")}).ok());
  CHECK(names("go_pprof") == with_binary);
  CHECK(names("pprof") == with_binary);
}

TEST_CASE("google/pprof finds code by the linker's name", "[V11]") {
  Victim victim("namespaced", {}, kExact);
  const Outcome listing =
      client("pprof", {"-weblist=add_item", "-output=/dev/stdout", victim.url("/debug/pprof/heap")});
  CAPTURE(listing.err);
  CHECK(listing.ok());
  CHECK(listing.out.find("shop::Order::add_item") != std::string::npos);
}

TEST_CASE("-list and -weblist show the sources, with the samples on their lines", "[V12]") {
  for (const char* build : {"lines_o0", "lines_o2", "lines_lto"}) {
    CAPTURE(build);
    Victim victim(build, {}, kExact);
    check_listings(victim);
  }
}

// Where the binary is at hand, both clients take lines of -weblist and of the web page's source view from
// there. Go's cmd/pprof reads DW_AT_name, which has no namespace or class, and no inlined functions
// (dwarfSourceLine): it shows functions of which that is the name in the profile, but for main of optimized
// code, which lies in front of where the line table begins. Where the binary is not at hand, it shows our
// lines.
TEST_CASE("Go's -weblist shows functions without namespace, and all where the binary is not", "[V12]") {
  const TempDir dir;
  const std::string program = dir.file("weblist");
  REQUIRE(run({"cp", victim_path("lines_o0"), program}).ok());
  const std::string heap = dir.file("heap.pb.gz");
  const std::string leak = dir.file("leak.pb.gz");
  {
    Victim victim(program, {}, kExact);
    write_text(heap, victim.get("/debug/pprof/heap").body);
    Victim in_c("leak", {}, kExact);
    write_text(leak, in_c.get("/debug/pprof/heap").body);
  }
  CHECK(weblist("go_pprof", "^leaky$", leak).find("<h2>leaky</h2>") != std::string::npos);
  CHECK(weblist("go_pprof", "^main$", heap).find("<h2>main</h2>") != std::string::npos);
  REQUIRE(run({"mv", program, dir.file("moved")}).ok());
  const std::string page = weblist("go_pprof", "Shelf|fill", heap);
  CAPTURE(page);
  for (const char* text :
       {"<h2>shop::Shelf::make_room</h2>", "<h2>shop::Shelf::put</h2>", "<h2>shop::fill</h2>",
        "// make_room: malloc", "// put: make_room", "// fill: put"})
    CHECK(page.find(text) != std::string::npos);
}

TEST_CASE("sources are found by way of a separate debug file", "[V12]") {
  const TempDir dir;
  const std::string program = dir.file("stripped");
  const std::string debug = dir.file("stripped.debug");
  REQUIRE(run({"cp", victim_path("lines_o2"), program}).ok());
  REQUIRE(run({"objcopy", "--only-keep-debug", program, debug}).ok());
  REQUIRE(run({"strip", program}).ok());
  REQUIRE(run({"objcopy", "--add-gnu-debuglink=" + debug, program}).ok());
  Victim victim(program, {}, kExact);
  check_listings(victim);
}

TEST_CASE("a program that is deleted or replaced while it runs has its own names and lines, or none",
          "[V12][E16]") {
  const TempDir dir;
  const std::string program = dir.file("short_lived");
  REQUIRE(run({"cp", victim_path("lines_o2"), program}).ok());
  Victim victim(program, {}, kExact);
  const auto check = [&] {
    const Profile heap = victim.profile();
    REQUIRE(heap.total("inuse_space").in("shop::fill") == 3000017);
    const Sample sample = heap.in("shop::fill").front();
    for (const Frame& frame : sample.stack) {
      if (frame.name != "shop::fill" || frame.file.empty()) continue;
      CHECK(run({"sed", "-n", std::to_string(frame.line) + "p", frame.file}).out.find("// fill: put") !=
            std::string::npos);
    }
  };
  REQUIRE(run({"rm", program}).ok());
  check();
  // Another file, which knows of other functions at these addresses.
  REQUIRE(run({"cp", victim_path("lines_lto"), program}).ok());
  check();
}

TEST_CASE("-disasm shows code, with the samples on their instructions", "[V13]") {
  Victim victim("lines_o2", {}, kExact);
  // By what the linker's name has in it: the code comes from the file, which this client does not demangle.
  const Outcome code = go_pprof({"-disasm=fill", "-unit=B", victim.url("/debug/pprof/heap")});
  CAPTURE(code.out, code.err);
  CHECK(code.ok());
  CHECK(std::regex_search(code.out, std::regex("\n +3000017B +3000017B +[0-9a-f]+: CALL")));
}

TEST_CASE("what pprof writes again is still right", "[V14]") {
  Victim victim("namespaced", {}, kExact);
  const TempDir dir;
  for (const char* program : {"go_pprof", "pprof"}) {
    const std::string file = dir.file(program);
    const Outcome written = client(program, {"-proto", "-output=" + file, victim.url("/debug/pprof/heap")});
    CAPTURE(written.err);
    CHECK(written.ok());
    CHECK(run({tool("checkprof"), file}).out == file + ": ok\n");
    const Profile again = Profile::parse(read_text(file));
    CHECK(again.total("inuse_space").in("shop::Order::add_item") == 3000017);
  }
}

TEST_CASE("growth shows only at the leak: -base, -diff_base", "[M15]") {
  Victim victim("leak", {"--times", "4"}, kExact);
  const TempDir dir;
  const std::string first = dir.file("first.pb.gz");
  write_text(first, victim.get("/debug/pprof/heap").body);
  victim.command("other");
  victim.command("other");
  for (const char* option : {"-base=", "-diff_base="}) {
    const Outcome top = go_pprof({"-top", "-unit=B", option + first, victim.url("/debug/pprof/heap")});
    CAPTURE(option, top.out, top.err);
    CHECK(std::regex_search(rows_of(top.out),
                            std::regex("^\\s*3999986B\\s+\\S+\\s+\\S+\\s+3999986B\\s+\\S+\\s+other_leak\n")));
    CHECK(top.out.find(" leaky\n") == std::string::npos);
    CHECK(top.out.find(" tidy\n") == std::string::npos);
  }
}

TEST_CASE("-seconds asks for a delta", "[V16]") {
  Victim victim("leak", {}, kExact);
  const Outcome top = go_pprof({"-top", "-seconds=2", victim.url("/debug/pprof/heap")});
  CAPTURE(top.err);
  CHECK(top.ok());
  CHECK(std::regex_search(top.out, std::regex("Duration: ([2-9]|1\\d)(\\.\\d+)?s")));
}

TEST_CASE("without a path go tool pprof asks for the CPU profile", "[V15][V16]") {
  Victim victim("cpu_shares");
  const Outcome top = go_pprof({"-top", "-seconds=2", victim.url()});
  CAPTURE(top.out, top.err);
  CHECK(top.ok());
  CHECK(top.out.find("File: cpu_shares\n") != std::string::npos);
  CHECK(top.out.find("Type: cpu\n") != std::string::npos);
  CHECK(std::regex_search(top.out, std::regex("Duration: ([2-9]|1\\d)(\\.\\d+)?s, Total samples = ")));
  CHECK(std::regex_search(rows_of(top.out), std::regex(" share_\\d+\n")));
}

TEST_CASE("pprof prints our words for what is not there", "[V17]") {
  Victim victim("leak");
  for (const char* program : {"go_pprof", "pprof"}) {
    const Outcome outcome = client(program, {"-top", victim.url("/debug/pprof/nosuch")});
    CHECK(outcome.exit_code == 2);
    CHECK(outcome.err.find("server response: 404 Not Found - Unknown profile") != std::string::npos);
  }
}

TEST_CASE("pprof's web pages show our profile", "[V18]") {
  Victim victim("leak", {}, kExact);
  Process server({tool("go_pprof"), "-http=127.0.0.1:0", "-no_browser", victim.url("/debug/pprof/heap")}, {});
  std::uint16_t port = 0;
  REQUIRE(eventually([&] { return (port = listening_port(server.pid())) != 0; }));
  for (const char* page : {"/ui/flamegraph", "/ui/top", "/ui/source?f=leaky", "/ui/peek?f=leaky"}) {
    CAPTURE(page);
    const Response answer = http(
        Address::tcp(port), {.target = page, .headers = {{"Host", "127.0.0.1:" + std::to_string(port)}}});
    CHECK(answer.status == 200);
    CHECK(answer.body.find("leaky") != std::string::npos);
  }
}

TEST_CASE("two processes of one program merge into the same rows", "[V19]") {
  Victim first("leak", {"--times", "2"}, kExact);
  Victim second("leak", {"--times", "3"}, kExact);
  const Outcome top =
      go_pprof({"-top", "-unit=B", first.url("/debug/pprof/heap"), second.url("/debug/pprof/heap")});
  CAPTURE(top.out, top.err);
  CHECK(std::regex_search(rows_of(top.out),
                          std::regex("^\\s*9999965B\\s+\\S+\\s+\\S+\\s+9999965B\\s+\\S+\\s+leaky\n")));
}

TEST_CASE("clients that need names ask /symbol for them", "[S06]") {
  Victim victim("namespaced", {}, kExact);
  Process proxy({tool("checkprof"), "-proxy", victim.url("/debug/pprof/heap")}, {});
  REQUIRE(proxy.wait_for_output("\n"));
  std::string url = proxy.out();
  url.pop_back();
  for (const char* program : {"go_pprof", "pprof"}) {
    const Outcome top = client(program, {"-top", "-unit=B", "-nodefraction=0", "-symbolize=remote", url});
    CAPTURE(top.out, top.err);
    CHECK(top.out.find(" shop::Order::add_item\n") != std::string::npos);
    CHECK(top.out.find(" main\n") != std::string::npos);
  }
}

TEST_CASE("google/pprof symbolizes the text form by its memory map", "[M13]") {
  Victim victim("leak", {"--times", "2"}, kExact);
  const TempDir dir;
  const std::string file = dir.file("heap.txt");
  write_text(file, victim.get("/debug/pprof/heap?debug=1").body);
  const Outcome top = client("pprof", {"-top", "-unit=B", file});
  CAPTURE(top.out, top.err);
  CHECK(std::regex_search(top.out, std::regex("3999986B .* leaky\n")));
}

TEST_CASE("curl by TCP and by the Unix socket, into a file that pprof reads", "[H21]") {
  Victim victim("leak", {}, kExact);
  const TempDir dir;
  const std::string file = dir.file("heap.pb.gz");
  const Outcome local = run({"curl", "-sS", "--fail", "--unix-socket", victim.socket_path(), "-o", file,
                             "http://localhost/debug/pprof/heap"});
  CHECK(local.ok());
  CHECK(go_pprof({"-top", file}).out.find(" leaky\n") != std::string::npos);
  CHECK(run({"curl", "-sS", "--fail", victim.url("/debug/pprof/heap?debug=1")})
            .out.rfind("heap profile: ", 0) == 0);
}
