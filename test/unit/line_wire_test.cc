// The packets between our thread and the helper: what is written is read, and nothing else is believed.
#include "agent/service/line_wire.h"

#include <cstring>

#include <catch2/catch.hpp>

using namespace profagent::service::line_wire;

namespace {

std::vector<std::byte> packed(const std::vector<Chain>& chains, std::uint32_t first = 0) {
  AnswerWriter writer(7, first);
  for (const Chain& chain : chains) REQUIRE(writer.add(chain));
  return writer.finish();
}

const std::vector<Chain> kChains = {
    {{"inner", "/a.c", 3}, {"outer", "/b.c", 40}}, {}, {{"inner", "/a.c", 4}}, {{"", "", 0}}};

// Where the words of an answer lie, for tests that forge them.
enum AnswerWord : std::size_t { kMark, kId, kFirst, kCount, kTextBytes };

std::vector<std::byte> forged(std::vector<std::byte> packet, std::size_t word, std::uint32_t value) {
  std::memcpy(packet.data() + word * sizeof(value), &value, sizeof(value));
  return packet;
}

}  // namespace

TEST_CASE("a request is read as it was written") {
  const Request request{.id = 9, .path = "/usr/lib/debug/x.debug", .addresses = {1, ~std::uint64_t{0}}};
  const auto packet = encode(request);
  const auto read = decode_request(packet);
  REQUIRE(read);
  CHECK(read->id == 9);
  CHECK(read->path == "/usr/lib/debug/x.debug");
  CHECK(read->addresses == request.addresses);
}

TEST_CASE("a request that is cut, padded, empty or too large is refused") {
  const auto packet = encode({.id = 9, .path = "/x", .addresses = {1, 2}});
  for (std::size_t size = 0; size < packet.size(); ++size) {
    INFO(size);
    CHECK_FALSE(decode_request(std::span(packet).first(size)));
  }
  auto padded = packet;
  padded.push_back(std::byte{0});
  CHECK_FALSE(decode_request(padded));
  CHECK_FALSE(decode_request(encode({.id = 9, .path = "/x", .addresses = {}})));
  CHECK_FALSE(decode_request(encode({.id = 9, .path = std::string_view("/x\0y", 4), .addresses = {1}})));
  CHECK_FALSE(decode_request(encode({.id = 9, .path = std::string(kMaxPath + 1, 'x'), .addresses = {1}})));
  CHECK_FALSE(decode_request(
      encode({.id = 9, .path = "/x", .addresses = std::vector<std::uint64_t>(kMaxAddresses + 1)})));
}

TEST_CASE("an answer is read as it was written, and each text is in it once") {
  const auto packet = packed(kChains, 5);
  const auto answer = decode_answer(packet);
  REQUIRE(answer);
  CHECK(answer->id == 7);
  CHECK(answer->first == 5);
  CHECK(answer->chains == kChains);
  CHECK(answer->chains[0][0].function.data() == answer->chains[2][0].function.data());
}

TEST_CASE("an answer that is cut or padded is refused") {
  const auto packet = packed(kChains);
  for (std::size_t size = 0; size < packet.size(); ++size) {
    INFO(size);
    CHECK_FALSE(decode_answer(std::span(packet).first(size)));
  }
  auto padded = packet;
  padded.push_back(std::byte{0});
  CHECK_FALSE(decode_answer(padded));
}

TEST_CASE("a forged answer is refused") {
  const auto packet = packed({{{"inner", "/a.c", 3}}});
  REQUIRE(decode_answer(packet));
  constexpr std::size_t kHeader = 20;
  CHECK_FALSE(decode_answer(forged(packet, kMark, 0)));
  CHECK_FALSE(decode_answer(forged(packet, kCount, 0)));
  CHECK_FALSE(decode_answer(forged(packet, kCount, kMaxAddresses + 1)));
  CHECK_FALSE(decode_answer(forged(packet, kCount, ~0U)));
  CHECK_FALSE(decode_answer(forged(packet, kFirst, kMaxAddresses)));
  CHECK_FALSE(decode_answer(forged(packet, kFirst, ~0U)));
  CHECK_FALSE(decode_answer(forged(packet, kTextBytes, 1)));
  // More frames than there are, or deeper than allowed.
  for (const unsigned depth : {2U, 65U, 255U}) {
    auto deep = packet;
    deep[kHeader] = static_cast<std::byte>(depth);
    CHECK_FALSE(decode_answer(deep));
  }
  // A text that begins outside of all texts, or in the middle of one.
  for (const std::uint32_t place : {2U, 12U, 1000U, ~0U}) {
    auto astray = packet;
    std::memcpy(astray.data() + kHeader + 1, &place, sizeof(place));
    INFO(place);
    CHECK_FALSE(decode_answer(astray));
  }
  // The last text has no end.
  auto endless = packet;
  endless.back() = std::byte{'x'};
  CHECK_FALSE(decode_answer(endless));
}

TEST_CASE("a packet takes what fits, and an empty one takes anything") {
  const std::string name(kMaxText, 'n');
  AnswerWriter writer(1, 0);
  std::uint32_t count = 0;
  for (;; ++count) {
    const std::string file = std::to_string(count) + std::string(4000, 'f');
    if (!writer.add(Chain{{name, file, 1}})) break;
  }
  CHECK(count > 5);
  CHECK(writer.count() == count);
  CHECK(writer.finish().size() <= kMaxPacket);
  const auto packet = writer.finish();
  const auto answer = decode_answer(packet);
  REQUIRE(answer);
  CHECK(answer->chains.back()[0].function == name);

  SECTION("with texts left out") {
    std::vector<std::string> texts;
    for (std::size_t i = 0; i < kMaxDepth + 9; ++i) texts.push_back(std::to_string(i) + name.substr(10));
    Chain huge;
    for (const std::string& text : texts) huge.push_back({text, "", 5});
    AnswerWriter empty(1, 0);
    CHECK(empty.add(huge));
    const auto bytes = empty.finish();
    CHECK(bytes.size() <= kMaxPacket);
    const auto cut = decode_answer(bytes);
    REQUIRE(cut);
    CHECK(cut->chains[0] == Chain(kMaxDepth, Frame{"", "", 5}));
  }
  SECTION("with one text that is too long") {
    const std::string longer = name + "n";
    AnswerWriter empty(1, 0);
    CHECK(empty.add(Chain{{longer, "/a.c", 5}}));
    const auto bytes = empty.finish();
    const auto answer_of_empty = decode_answer(bytes);
    REQUIRE(answer_of_empty);
    CHECK(answer_of_empty->chains[0] == Chain{{"", "/a.c", 5}});
  }
}
