#include "encoder/utf8.h"

#include <catch2/catch.hpp>
#include <string>

namespace profagent::encoder {
namespace {

TEST_CASE("is_utf8 accepts the first and last character of each length and nothing else") {
  for (const char* good : {"", "a", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
                           "\xee\x80\x80", "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    CAPTURE(good);
    CHECK(is_utf8(good));
  }
  // Stray continuation, overlong forms, surrogates, above U+10FFFF, torn at the end, wrong continuation.
  for (const char* bad : {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
                          "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xc2", "\xe2\x82", "\xf0\x9f\x98",
                          "\xe2\x28\xa1", "\xf0\x9f\x28\x80"}) {
    CAPTURE(bad);
    CHECK_FALSE(is_utf8(bad));
    CHECK_FALSE(is_utf8(std::string("ok") + bad));
  }
}

TEST_CASE("to_utf8 escapes exactly the bytes that are not part of a character") {
  CHECK(to_utf8("plain") == "plain");
  CHECK(to_utf8("na\xc3\xafve") == "na\xc3\xafve");
  CHECK(to_utf8("a\xff"
                "b") == "a\\xffb");
  CHECK(to_utf8("\xed\xa0\x80") == "\\xed\\xa0\\x80");
  CHECK(to_utf8("\xe2\x82") == "\\xe2\\x82");
  CHECK(to_utf8("\x80\xe2\x82\xac") == "\\x80\xe2\x82\xac");
}

TEST_CASE("to_utf8 keeps control characters unless told to escape them") {
  const std::string text("a\n\tb\0c\x7f", 7);
  CHECK(to_utf8(text) == text);
  CHECK(to_utf8(text, kMaxStringBytes, Controls::kEscape) == "a\\x0a\\x09b\\x00c\\x7f");
}

TEST_CASE("to_utf8 cuts before a character or an escape that does not fit") {
  CHECK(to_utf8("abcd", 3) == "abc");
  CHECK(to_utf8("ab\xe2\x82\xac", 4) == "ab");
  CHECK(to_utf8("ab\xe2\x82\xac", 5) == "ab\xe2\x82\xac");
  CHECK(to_utf8("ab\xff", 5) == "ab");
  CHECK(to_utf8("ab\xff", 6) == "ab\\xff");
  CHECK(to_utf8(std::string(70000, 'x')).size() == kMaxStringBytes);
}

}  // namespace
}  // namespace profagent::encoder
