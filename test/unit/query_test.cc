#include "agent/service/query.h"

#include <catch2/catch.hpp>

#include <limits>
#include <string>

namespace profagent::service {

namespace {

std::string value_of(std::string_view raw, std::string_view name) {
  return std::string(Query(raw).get(name));
}

}  // namespace

TEST_CASE("form values are read as Go reads them") {
  CHECK(value_of("seconds=5", "seconds") == "5");
  CHECK(value_of("a=1&seconds=5&seconds=6", "seconds") == "5");
  CHECK(value_of("seconds=&seconds=6", "seconds").empty());
  CHECK(value_of("seconds", "seconds").empty());
  CHECK(value_of("", "seconds").empty());
  CHECK(value_of("&&=&seconds=1&", "seconds") == "1");
  CHECK(value_of("seconds=1=2", "seconds") == "1=2");
  CHECK(value_of("Seconds=1", "seconds").empty());
}

TEST_CASE("names and values are decoded, and dropped when they cannot be") {
  CHECK(value_of("%73econds=%31+%2b", "seconds") == "1 +");
  CHECK(value_of("a+b=c", "a b") == "c");
  CHECK(value_of("x=%zz&x=2", "x") == "2");
  CHECK(value_of("x=%4&x=2", "x") == "2");
  CHECK(value_of("x=%&x=2", "x") == "2");
  CHECK(value_of("%q=1&x=2", "x") == "2");
  CHECK(value_of("x=%00", "x") == std::string(1, '\0'));
}

TEST_CASE("a semicolon spoils its pair and no other") {
  CHECK(value_of("seconds=1;debug=1", "seconds").empty());
  CHECK(value_of("seconds=1;debug=1", "debug").empty());
  CHECK(value_of("seconds=1;debug=1&debug=2", "debug") == "2");
  CHECK(value_of("seconds=1%3b2", "seconds") == "1;2");
}

TEST_CASE("paths keep their plus") {
  CHECK(percent_decode("a+b%2Fc", Plus::kIsPlus) == "a+b/c");
  CHECK(percent_decode("a+b", Plus::kIsSpace) == "a b");
  CHECK(percent_decode("", Plus::kIsPlus) == "");
  CHECK_FALSE(percent_decode("%1", Plus::kIsPlus));
}

TEST_CASE("integers are base 10 with a sign, and nothing else") {
  CHECK(parse_int("0") == 0);
  CHECK(parse_int("+5") == 5);
  CHECK(parse_int("-5") == -5);
  CHECK(parse_int("007") == 7);
  CHECK(parse_int("9223372036854775807") == std::numeric_limits<std::int64_t>::max());
  CHECK(parse_int("-9223372036854775808") == std::numeric_limits<std::int64_t>::min());
  for (const char* wrong : {"", "+", "-", " 5", "5 ", "0x5", "1e1", "1.5", "1_000", "--5",
                            "9223372036854775808", "-9223372036854775809", "99999999999999999999999"}) {
    CAPTURE(wrong);
    CHECK_FALSE(parse_int(wrong));
  }
}

TEST_CASE("an ignored error leaves 0, or the nearest bound") {
  CHECK(parse_int_or_zero("3") == 3);
  CHECK(parse_int_or_zero("-3") == -3);
  CHECK(parse_int_or_zero("") == 0);
  CHECK(parse_int_or_zero("3x") == 0);
  CHECK(parse_int_or_zero("99999999999999999999x") == 0);
  CHECK(parse_int_or_zero("99999999999999999999") == std::numeric_limits<std::int64_t>::max());
  CHECK(parse_int_or_zero("-99999999999999999999") == std::numeric_limits<std::int64_t>::min());
}

TEST_CASE("addresses take Go's prefixes and underscores") {
  CHECK(parse_address_or_zero("0x7fFF") == 0x7fff);
  CHECK(parse_address_or_zero("0X10") == 16);
  CHECK(parse_address_or_zero("010") == 8);
  CHECK(parse_address_or_zero("0o17") == 15);
  CHECK(parse_address_or_zero("0b101") == 5);
  CHECK(parse_address_or_zero("42") == 42);
  CHECK(parse_address_or_zero("0x_1_f") == 0x1f);
  CHECK(parse_address_or_zero("0_7") == 7);
  CHECK(parse_address_or_zero("1_000") == 1000);
  CHECK(parse_address_or_zero("0x" + std::string(300, '0') + "1") == 1);
  CHECK(parse_address_or_zero("0xffffffffffffffff") == std::numeric_limits<std::uint64_t>::max());
  // A value that is too large is cut to the largest, as ParseUint does with its error ignored.
  CHECK(parse_address_or_zero("0x1ffffffffffffffff") == std::numeric_limits<std::uint64_t>::max());
  for (const char* wrong : {"", "0", "0x", "0b", "x", "08", "0b2", "0xg", "_1", "1_", "1__0", "0x1_", "-1",
                            "+1", " 1", "1\n", "1,2"}) {
    CAPTURE(wrong);
    CHECK(parse_address_or_zero(wrong) == 0);
  }
}

TEST_CASE("paths are cleaned as Go does") {
  for (const auto& [path, clean] :
       {std::pair("", "/"), std::pair("/", "/"), std::pair("//", "/"), std::pair("a", "/a"),
        std::pair("/a/", "/a/"), std::pair("/a//", "/a/"), std::pair("/a/.", "/a"), std::pair("/a/..", "/"),
        std::pair("/../..", "/"), std::pair("/a/b/../c", "/a/c"), std::pair("/..a/.b/c..", "/..a/.b/c.."),
        std::pair("*", "/*")}) {
    CAPTURE(path);
    CHECK(clean_path(path) == clean);
  }
}

}  // namespace profagent::service
