// Clients of other machines: only with a token from a file that is for us alone, in a header or, since go
// tool pprof sends nothing else, as a password. In a network of the test's own, whose address is not
// loopback.
#include <cstdlib>
#include <filesystem>
#include <regex>
#include <string>

#include <sys/stat.h>
#include <unistd.h>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "test/support/own_network.h"
#include "test/support/programs.h"

using namespace profagent::test;

namespace {

constexpr char kToken[] = "0123456789-abcdef-token";
constexpr char kTokenInBase64[] = "eDowMTIzNDU2Nzg5LWFiY2RlZi10b2tlbg==";  // of "x:" and the token
const Address kRemote{{}, 7070, kOwnAddress};

// A program that serves the whole of this network, on port 7070, and a Unix socket.
class Service {
 public:
  explicit Service(const std::string& token = kToken, mode_t mode = 0600, const std::string& allow = "1") {
    write_text(token_path(), token + "\n");
    REQUIRE(chmod(token_path().c_str(), mode) == 0);
    victim_ =
        std::make_unique<Victim>("leak", Arguments{},
                                 Environment{{"PROFAGENT_ADDR", "0.0.0.0:7070,unix://" + dir_.file("socket")},
                                             {"PROFAGENT_ALLOW_REMOTE", allow},
                                             {"PROFAGENT_TOKEN_FILE", token_path()},
                                             {"PROFAGENT_MEM_PROFILE_RATE", "1"},
                                             {"PROFAGENT_LOG", "error"},
                                             {"PROFAGENT_LOG_FILE", dir_.file("log")}},
                                 VictimOptions{.serves = false});
    REQUIRE(eventually([this] { return can_connect(local()); }));
  }
  [[nodiscard]] Address local() const { return Address::unix_socket(dir_.file("socket")); }
  [[nodiscard]] std::string token_path() const { return dir_.file("token"); }
  [[nodiscard]] std::string log() const { return read_text(dir_.file("log")); }
  Victim& victim() { return *victim_; }

 private:
  TempDir dir_;
  std::unique_ptr<Victim> victim_;
};

Response ask(const std::string& authorization, std::map<std::string, std::string> headers = {}) {
  if (!authorization.empty()) headers["Authorization"] = authorization;
  headers.emplace("Host", "service.example:7070");
  return http(kRemote, {.target = "/debug/pprof/heap", .headers = headers});
}

}  // namespace

TEST_CASE("who comes from elsewhere must show the token", "[J1]") {
  if (!take_own_network()) return;
  const Service service;
  for (const std::string& wrong :
       {std::string(), std::string("Bearer"), std::string("Bearer "), "Bearer " + std::string(kToken) + "x",
        "Bearer " + std::string(kToken).substr(1), std::string("Basic Og=="), std::string("Basic ") + kToken,
        std::string("Digest ") + kToken}) {
    CAPTURE(wrong);
    const Response refused = ask(wrong);
    CHECK(refused.status == 401);
    CHECK(refused.header("www-authenticate") == "Basic realm=\"profagent\"");
    CHECK(refused.header("x-go-pprof") == "1");
    CHECK(refused.body.find("go tool pprof http://x:TOKEN@host:port/") != std::string::npos);
    CHECK(refused.body.find(kToken) == std::string::npos);
  }
  CHECK(ask("Bearer " + std::string(kToken)).status == 200);
  CHECK(ask("bearer " + std::string(kToken)).status == 200);
  CHECK(ask("Basic " + std::string(kTokenInBase64)).status == 200);
  const auto facts = nlohmann::json::parse(http_get(service.local(), "/debug/pprof/agent").body);
  CHECK(facts["service"]["requests_refused"] == 8);
}

TEST_CASE("the token opens every page, and pages of other sites none", "[J2][J3]") {
  if (!take_own_network()) return;
  const Service service;
  const std::string token = "Bearer " + std::string(kToken);
  for (const char* target : {"/debug/pprof/", "/metrics", "/debug/pprof/config", "/debug/pprof/agent"}) {
    CAPTURE(target);
    CHECK(http(kRemote, {.target = target}).status == 401);
    CHECK(http(kRemote, {.target = target, .headers = {{"Authorization", token}}}).status == 200);
  }
  const Request change = {.method = "PUT",
                          .target = "/debug/pprof/config",
                          .headers = {{"Content-Type", "application/json"}},
                          .body = R"({"stack_depth": 64})"};
  CHECK(http(kRemote, change).status == 401);
  Request with_token = change;
  with_token.headers["Authorization"] = token;
  with_token.headers["Host"] = "service.example:7070";
  with_token.headers["Origin"] = "http://evil.example";
  CHECK(http(kRemote, with_token).status == 403);
  with_token.headers["Origin"] = "http://service.example:7070";
  CHECK(http(kRemote, with_token).status == 200);
  // Whatever name it came under, the commands of the index are safe to paste.
  const std::string evil =
      http(kRemote, {.target = "/debug/pprof/", .headers = {{"Authorization", token}, {"Host", "x;id>y"}}})
          .body;
  CHECK(evil.find("x;id") == std::string::npos);
  CHECK(evil.find("http://localhost/debug/pprof/heap") != std::string::npos);
}

TEST_CASE("on loopback the token changes nothing", "[J1][J2]") {
  if (!take_own_network()) return;
  const Service service;
  CHECK(http_get(Address::tcp(7070), "/debug/pprof/heap").status == 200);
  CHECK(http(Address::tcp(7070), {.target = "/debug/pprof/heap", .headers = {{"Host", "evil.example"}}})
            .status == 403);
  if (geteuid() != 0) return;
  // The token is for other machines: here the kernel knows who asks.
  REQUIRE(seteuid(65534) == 0);
  auto stranger = std::make_unique<Connection>(Address::tcp(7070));
  REQUIRE(seteuid(0) == 0);
  CHECK(stranger
            ->request({.target = "/debug/pprof/heap",
                       .headers = {{"Authorization", "Bearer " + std::string(kToken)}}})
            .status == 403);
}

TEST_CASE("go tool pprof and curl get through with the token as a password") {
  if (!take_own_network()) return;
  const Service service;
  const std::string at = std::string(kOwnAddress) + ":7070/debug/pprof/heap";
  const std::string with_password = "http://x:" + std::string(kToken) + "@" + at;
  const std::string pprof = std::string(getenv("TOOL_DIR")) + "/go_pprof";  // NOLINT(concurrency-mt-unsafe)
  if (std::filesystem::exists(pprof)) {
    const TempDir dir;
    const Outcome top = run({pprof, "-top", "-unit=B", with_password}, {{"PPROF_TMPDIR", dir.path()}});
    CHECK(top.ok());
    CHECK(std::regex_search(top.out, std::regex("1999993B.*leaky")));
    const Outcome refused = run({pprof, "-top", "http://" + at}, {{"PPROF_TMPDIR", dir.path()}});
    CHECK_FALSE(refused.ok());
    // It shows what we say.
    CHECK(refused.err.find("PROFAGENT_TOKEN_FILE") != std::string::npos);
  }
  const Outcome curl = run({"curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", with_password});
  CHECK(curl.out == "200");
}

TEST_CASE("without a good token nothing is served to other machines, and the log says why", "[J1]") {
  if (!take_own_network()) return;
  struct Case {
    std::string token;
    mode_t mode;
    std::string allow;
    std::string reason;
  };
  for (const Case& wrong : {Case{kToken, 0640, "1", "has rights for others: its mode must be 0600"},
                            Case{"tooshort", 0600, "1", "has a token of less than 16 characters"},
                            Case{kToken, 0600, "0", "this needs PROFAGENT_ALLOW_REMOTE=1"}}) {
    CAPTURE(wrong.reason);
    Service service(wrong.token, wrong.mode, wrong.allow);
    CHECK_FALSE(can_connect(kRemote));
    CHECK_FALSE(can_connect(Address::tcp(7070)));
    CHECK(service.log().find(wrong.reason) != std::string::npos);
    CHECK(service.log().find(kToken) == std::string::npos);
    const auto problems =
        nlohmann::json::parse(http_get(service.local(), "/debug/pprof/agent").body)["problems"];
    CHECK(problems.dump().find(wrong.reason) != std::string::npos);
    CHECK(service.victim().finish().ok());
  }
}
