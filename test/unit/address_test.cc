#include "agent/service/listen_address.h"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

#include "agent/service/listen.h"

namespace profagent::service {

namespace {

AddressFacts facts() {
  AddressFacts result;
  result.pid = 4711;
  result.uid = 1000;
  result.executable = "my/prog";
  result.host = "box";
  result.unix_time = 1700000000;
  result.counter = 3;
  return result;
}

struct Parsed {
  std::vector<std::string> addresses;
  std::string problems;
};

Parsed parse(std::string_view text, const AddressFacts& with = facts()) {
  AddressList list;
  ProblemText problems;
  parse_addresses(text, with, &list, &problems);
  Parsed parsed;
  for (std::size_t i = 0; i < list.count; ++i) {
    FixedText<160> description;
    describe(list.items[i], &description);
    parsed.addresses.emplace_back(description.view());
    if (list.items[i].last_port != list.items[i].port) {
      parsed.addresses.back() += "-" + std::to_string(list.items[i].last_port);
    }
  }
  parsed.problems = problems.view();
  return parsed;
}

using Strings = std::vector<std::string>;

}  // namespace

TEST_CASE("by default: a port of the range on loopback, and a socket in a folder of ours") {
  CHECK(parse("").addresses == Strings{"127.0.0.1:6060-6159", "unix:///tmp/profagent-1000/4711.sock"});
  AddressFacts with = facts();
  with.runtime_dir = "/run/user/1000";
  CHECK(parse("", with).addresses ==
        Strings{"127.0.0.1:6060-6159", "unix:///run/user/1000/profagent/4711.sock"});
  with.runtime_dir = "relative";
  CHECK(parse("", with).addresses[1] == "unix:///tmp/profagent-1000/4711.sock");
  const std::string deep = "/" + std::string(100, 'd');
  with.runtime_dir = deep;
  CHECK(parse("", with).addresses[1] == "unix:///tmp/profagent-1000/4711.sock");
  CHECK(parse("").problems.empty());
}

TEST_CASE("addresses are numbers or localhost, the default host is loopback") {
  CHECK(parse(":7070").addresses == Strings{"127.0.0.1:7070"});
  CHECK(parse(":0").addresses == Strings{"127.0.0.1:0"});
  CHECK(parse("localhost:1").addresses == Strings{"127.0.0.1:1"});
  CHECK(parse("127.0.0.2:65535").addresses == Strings{"127.0.0.2:65535"});
  CHECK(parse("[::1]:6060").addresses == Strings{"[::1]:6060"});
  CHECK(parse(":1,unix:///a/b,[::1]:2,,").addresses == Strings{"127.0.0.1:1", "unix:///a/b", "[::1]:2"});
  CHECK(parse(":1,off,:2").addresses.empty());
  CHECK(parse("off").problems.empty());
}

TEST_CASE("what cannot be used is left out and named") {
  for (const std::string wrong :
       {"6060", "host:6060", "localhost6:1", "127.0.0.1", "127.1:80", "127.0.0.1:65536", "127.0.0.1:-1",
        "127.0.0.1:", ":x", "::1:6060", "[::1]", "[127.0.0.1]:1", "unix://relative", "unix://",
        "unix:///folder/", "http://localhost:6060"}) {
    CAPTURE(wrong);
    const Parsed parsed = parse(wrong + ",:1");
    CHECK(parsed.addresses == Strings{"127.0.0.1:1"});
    CHECK(parsed.problems.find("\"" + wrong + "\"") != std::string::npos);
  }
  CHECK(parse("unix:///" + std::string(107, 'x')).problems.find("too long") != std::string::npos);
  CHECK(parse("unix:///" + std::string(106, 'x')).addresses.size() == 1);
}

TEST_CASE("beyond loopback only when asked for") {
  AddressFacts with = facts();
  for (const char* remote :
       {"0.0.0.0:6060", "192.168.1.1:6060", "[::]:6060", "[2001:db8::1]:6060", "128.0.0.1:1"}) {
    CAPTURE(remote);
    with.remote = Remote::kForbidden;
    CHECK(parse(remote, with).addresses.empty());
    CHECK(parse(remote, with).problems.find("PROFAGENT_ALLOW_REMOTE=1") != std::string::npos);
    with.remote = Remote::kLacksToken;
    CHECK(parse(remote, with).addresses.empty());
    CHECK(parse(remote, with).problems.find("PROFAGENT_TOKEN_FILE") != std::string::npos);
    with.remote = Remote::kAllowed;
    CHECK(parse(remote, with).addresses == Strings{remote});
  }
}

TEST_CASE("placeholders are filled in, and no value leaves its folder") {
  CHECK(parse("unix:///s/%p-%e-%h-%t-%n-%%-%x-%").addresses ==
        Strings{"unix:///s/4711-my_prog-box-1700000000-3-%-%x-%"});
}

TEST_CASE("more addresses than there is room for are left out") {
  CHECK(parse(":1,:2,:3,:4,:5,:6,:7,:8,:9").addresses.size() == kMaxAddresses);
}

}  // namespace profagent::service
