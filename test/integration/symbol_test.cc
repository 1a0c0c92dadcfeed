// /debug/pprof/symbol, S01-S07 of the conformance table.
#include <map>
#include <regex>
#include <sstream>

#include <catch2/catch.hpp>

#include "test/support/victim.h"

using namespace profagent::test;

namespace {

const Environment kExact = {{"PROFAGENT_MEM_PROFILE_RATE", "1"}};
constexpr const char* kTarget = "/debug/pprof/symbol";

std::string hex(std::uint64_t value) {
  std::ostringstream out;
  out << "0x" << std::hex << value;
  return out.str();
}

// The addresses of two frames of the profile, by function.
std::map<std::string, std::uint64_t> addresses_of(const Profile& heap, const std::string& leaf) {
  std::map<std::string, std::uint64_t> result;
  for (const Sample& sample : heap.in(leaf))
    for (const Frame& frame : sample.stack) result[frame.system_name] = frame.address;
  return result;
}

}  // namespace

TEST_CASE("without addresses the answer is that there are symbols", "[S01]") {
  Victim victim("leak");
  const Response answer = victim.get(kTarget);
  CHECK(answer.status == 200);
  CHECK(answer.header("content-type") == "text/plain; charset=utf-8");
  CHECK(answer.header("x-content-type-options") == "nosniff");
  CHECK(answer.body == "num_symbols: 1\n");
}

TEST_CASE("addresses get the names of their functions, by GET and POST", "[S02][S03][S04]") {
  Victim victim("leak", {}, kExact);
  const auto found = addresses_of(victim.profile(), "leaky");
  REQUIRE(found.count("leaky") == 1);
  REQUIRE(found.count("main") == 1);
  const std::string leaky = hex(found.at("leaky"));
  const std::string main = hex(found.at("main"));
  const std::string expected = "num_symbols: 1\n" + leaky + " leaky\n" + main + " main\n";
  CHECK(victim.get(std::string(kTarget) + "?" + leaky + "+" + main).body == expected);

  const auto post = [&](const std::string& body, const std::string& type) {
    return victim.request(
        {.method = "POST", .target = kTarget, .headers = {{"Content-Type", type}}, .body = body});
  };
  CHECK(post(leaky + "+" + main, "application/octet-stream").status == 200);
  CHECK(post(leaky + "+" + main, "application/octet-stream").body == expected);
  CHECK(post(leaky + "+" + main, "application/x-www-form-urlencoded").body == expected);

  const std::string decimal = std::to_string(found.at("main"));
  CHECK(post("0x10+zebra+0+" + leaky + "++0xzz+" + decimal + "+0xffffffffffffffffff",
             "application/octet-stream")
            .body == expected);
  // Not separators: the word that contains them is no number.
  CHECK(victim.get(std::string(kTarget) + "?" + leaky + "%2B" + main).body == "num_symbols: 1\n");
  CHECK(victim.get(std::string(kTarget) + "?" + leaky + "," + main).body == "num_symbols: 1\n");
}

TEST_CASE("names are the linker's: clients demangle", "[S02]") {
  Victim victim("namespaced", {}, kExact);
  const Profile heap = victim.profile();
  const std::vector<Sample> samples = heap.in("shop::Order::add_item");
  REQUIRE(samples.size() == 1);
  const std::string answer = victim.get(std::string(kTarget) + "?" + hex(samples[0].stack[0].address)).body;
  CHECK(answer == "num_symbols: 1\n" + hex(samples[0].stack[0].address) + " _ZN4shop5Order8add_itemEi\n");
}

TEST_CASE("a hundred thousand addresses in one request", "[S05]") {
  Victim victim("leak", {}, kExact);
  const auto found = addresses_of(victim.profile(), "leaky");
  std::string body;
  for (int i = 0; i < 50000; ++i)
    body += (body.empty() ? "" : "+") + hex(found.at("leaky")) + "+" + hex(found.at("main"));
  REQUIRE(body.size() > 1000000);
  const Response answer = victim.request({.method = "POST", .target = kTarget, .body = body});
  CHECK(answer.status == 200);
  CHECK(std::count(answer.body.begin(), answer.body.end(), '\n') == 100001);
}

TEST_CASE("a body may be announced with Expect, or come in chunks", "[S07]") {
  Victim victim("leak", {}, kExact);
  const std::string leaky = hex(addresses_of(victim.profile(), "leaky").at("leaky"));
  const std::string expected = "num_symbols: 1\n" + leaky + " leaky\n";
  {
    Connection connection(victim.unix_address());
    connection.send(
        "POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: " +
        std::to_string(leaky.size()) + "\r\n\r\n");
    const Response go_on = connection.read_response();
    CHECK(go_on.status == 100);
    connection.send(leaky);
    CHECK(connection.read_response().body == expected);
  }
  {
    Connection connection(victim.unix_address());
    std::ostringstream chunks;
    chunks << "4\r\n"
           << leaky.substr(0, 4) << "\r\n"
           << std::hex << leaky.size() - 4 << "\r\n"
           << leaky.substr(4) << "\r\n0\r\n\r\n";
    connection.send(
        "POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" +
        chunks.str());
    CHECK(connection.read_response().body == expected);
  }
}
