#include "encoder/gzip.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "test/unit/encoder_check.h"

namespace profagent::encoder {
namespace {

std::string compressed(const std::string& text, std::size_t piece) {
  StringSink sink;
  GzipWriter gzip(sink);
  for (std::size_t i = 0; i < text.size(); i += piece) gzip.write(std::string_view(text).substr(i, piece));
  gzip.finish();
  return sink.take();
}

std::string noise(std::size_t bytes) {
  std::mt19937 random(7);
  std::string result(bytes, '\0');
  for (char& c : result) c = static_cast<char>(random());
  return result;
}

TEST_CASE("the gzip header is the one that Go writes") {
  const std::string file = compressed("hello", 5);
  CHECK(file.substr(0, 10) == std::string("\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff", 10));
}

TEST_CASE("gzip is one complete member however the input comes in pieces") {
  const std::string text = noise(200'000) + std::string(300'000, 'a');
  for (const std::size_t piece : {std::size_t{1009}, std::size_t{65536}, text.size()}) {
    CHECK(testing::gunzip(compressed(text, piece)) == text);
  }
  CHECK(testing::gunzip(compressed("", 1)).empty());
}

TEST_CASE("the check behind these tests sees torn, corrupt and doubled files") {
  const std::string file = compressed(noise(1000), 1000);
  CHECK_THROWS(testing::gunzip(file.substr(0, file.size() - 1)));
  CHECK_THROWS(testing::gunzip(file + file));
  std::string corrupt = file;
  corrupt[corrupt.size() - 8] = static_cast<char>(corrupt[corrupt.size() - 8] ^ 1);  // the CRC
  CHECK_THROWS(testing::gunzip(corrupt));
}

TEST_CASE("gzip hands its output on in small pieces, as it goes") {
  class Pieces final : public Sink {
   public:
    void write(std::string_view bytes) override { sizes.push_back(bytes.size()); }
    std::vector<std::size_t> sizes;
  };
  Pieces pieces;
  GzipWriter gzip(pieces);
  gzip.write(noise(1'000'000));
  CHECK(pieces.sizes.size() > 10);
  gzip.finish();
  CHECK(*std::max_element(pieces.sizes.begin(), pieces.sizes.end()) <= 16384);
}

TEST_CASE("writing after the end is refused") {
  StringSink sink;
  GzipWriter gzip(sink);
  gzip.finish();
  CHECK_THROWS_AS(gzip.write("more"), std::logic_error);
}

}  // namespace
}  // namespace profagent::encoder
