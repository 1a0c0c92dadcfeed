// What is remembered of source lines is shared and bounded.
#include "agent/service/line_cache.h"

#include <string>

#include <malloc.h>
#include <catch2/catch.hpp>

using namespace profagent::service;

namespace {

line_wire::Chain chain_of(const std::string& function, const std::string& file, std::uint32_t line) {
  return {{function, file, line}, {function, file, line + 1}};
}

// Known, or the test fails.
LineChain known(const LineCache& cache, const ImageLines& image, std::uint64_t address) {
  const auto chain = cache.find(image, address);
  REQUIRE(chain);
  return *chain;
}

}  // namespace

TEST_CASE("equal chains and equal texts are kept once") {
  LineCache cache;
  ImageLines& image = cache.of("id");
  CHECK(cache.add(image, 1, chain_of("f", "/a.c", 3)));
  CHECK(cache.add(image, 2, chain_of(std::string("f"), std::string("/a.c"), 3)));
  CHECK(cache.add(image, 3, chain_of("f", "/a.c", 4)));
  CHECK(cache.add(image, 4, {}));
  CHECK(known(cache, image, 1) == known(cache, image, 2));
  CHECK_FALSE(known(cache, image, 1) == known(cache, image, 3));
  CHECK(known(cache, image, 1)[0].file.data() == known(cache, image, 3)[1].file.data());
  CHECK(known(cache, image, 4).empty());
  CHECK_FALSE(cache.find(image, 5));
  CHECK(&cache.of("id") == &image);
}

TEST_CASE("an address is one image's") {
  LineCache cache;
  ImageLines& one = cache.of("one");
  ImageLines& other = cache.of("other");
  CHECK_FALSE(cache.find(one, 1));
  CHECK(cache.add(one, 1, chain_of("f", "/a.c", 3)));
  CHECK_FALSE(cache.find(other, 1));
  CHECK(cache.add(other, 1, chain_of("g", "", 0)));
  CHECK(known(cache, one, 1)[0] == SourceLine{"f", "/a.c", 3});
  CHECK(known(cache, one, 1)[1] == SourceLine{"f", "/a.c", 4});
  CHECK(known(cache, other, 1)[0] == SourceLine{"g", "", 0});
}

TEST_CASE("many are told apart, and are found again after the tables have grown") {
  constexpr std::uint64_t kMany = 30'000;
  LineCache cache;
  const ImageLines* const images[] = {&cache.of("one"), &cache.of("other"), &cache.of("third")};
  const auto chain = [](std::uint64_t address, std::size_t image) {
    line_wire::Chain result(address % 5, {"", "/a.c", static_cast<std::uint32_t>(address / 9)});
    if (!result.empty()) result.back().line += static_cast<std::uint32_t>(image);
    return result;
  };
  const auto name = [](std::uint64_t address) { return "f" + std::to_string(address / 7); };
  for (std::uint64_t address = 0; address < kMany; ++address) {
    for (std::size_t i = 0; i < 3; ++i) {
      line_wire::Chain added = chain(address, i);
      const std::string function = name(address);
      for (line_wire::Frame& frame : added) frame.function = function;
      REQUIRE(cache.add(*images[i], address << 12U, added));
    }
  }
  for (std::uint64_t address = 0; address < kMany; ++address) {
    for (std::size_t i = 0; i < 3; ++i) {
      line_wire::Chain expected = chain(address, i);
      const LineChain found = known(cache, *images[i], address << 12U);
      REQUIRE(found.size() == expected.size());
      std::size_t at = 0;
      for (const SourceLine line : found)
        REQUIRE(line == SourceLine{name(address), "/a.c", expected[at++].line});
      REQUIRE_FALSE(cache.find(*images[i], (address << 12U) + 1));
    }
  }
}

TEST_CASE("long texts are kept, too, but for those that no helper of ours sends") {
  LineCache cache;
  ImageLines& image = cache.of("id");
  const std::size_t sizes[] = {1, 2047, 2048, 2049, 8192, 3, 8000, 8191, 8190, 8189, 8188, 8187, 8186, 8185};
  const auto text_of = [](std::size_t size) { return std::string(size, static_cast<char>('a' + size % 26)); };
  for (const std::size_t size : sizes) CHECK(cache.add(image, size, chain_of(text_of(size), "/a.c", 1)));
  // Nothing has been written over.
  for (const std::size_t size : sizes) CHECK(known(cache, image, size)[0].function == text_of(size));
  for (const std::size_t size : {8193UL, 65535UL, 65536UL, 65540UL}) {
    CHECK(cache.add(image, size, chain_of(text_of(size), "/a.c", 1)));
    CHECK(known(cache, image, size)[0] == SourceLine{"", "/a.c", 1});
  }
}

TEST_CASE("chains stay valid as long as somebody holds their store") {
  LineCache cache;
  CHECK(cache.store() == nullptr);
  CHECK(cache.add(cache.of("id"), 1, chain_of("f", "/a.c", 3)));
  const LineChain chain = known(cache, cache.of("id"), 1);
  const auto store = cache.store();
  cache.clear();
  CHECK(cache.store() == nullptr);
  CHECK_FALSE(cache.find(cache.of("id"), 1));
  CHECK(cache.add(cache.of("id"), 1, chain_of("other", "/b.c", 4)));
  CHECK(chain[0] == SourceLine{"f", "/a.c", 3});
  CHECK_FALSE(known(cache, cache.of("id"), 1) == chain);
}

#ifndef __SANITIZE_ADDRESS__  // whose allocator tells nothing of itself
namespace {

// Of blocks that are mapped on their own, too.
std::size_t heap_in_use() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

}  // namespace

TEST_CASE("the cache is full at about what it says, and then it is emptied") {
  const std::size_t before = heap_in_use();
  LineCache cache;
  ImageLines& image = cache.of("id");
  std::uint64_t address = 0;
  for (; !cache.is_full(); ++address) {
    const std::string name = "a_function_with_a_name_of_its_own_" + std::to_string(address);
    CHECK(cache.add(image, address, chain_of(name, "/some/folder/file" + std::to_string(address % 100), 1)));
  }
  const std::size_t used = heap_in_use() - before;
  CHECK(used > LineCache::kMaxBytes);
  CHECK(used < LineCache::kMaxBytes + LineCache::kMaxBytes / 8);
  CHECK(address > 30'000);
  cache.clear();
  CHECK_FALSE(cache.is_full());
  CHECK(heap_in_use() - before < LineCache::kMaxBytes / 100);
}

TEST_CASE("what a helper says is never kept beyond a bound, however it is made") {
  for (const std::size_t size : {0UL, 10UL, 2049UL, 8000UL}) {
    INFO(size);
    const std::size_t before = heap_in_use();
    LineCache cache;
    ImageLines& image = cache.of("id");
    std::uint64_t address = 0;
    const auto add = [&] {
      line_wire::Chain chain;
      std::vector<std::string> texts;
      texts.reserve(line_wire::kMaxDepth);
      const std::size_t depth = size == 0 ? 0 : line_wire::kMaxPacket / (size + 1000);
      for (std::size_t i = 0; i < depth; ++i) {
        texts.push_back(std::to_string(address) + "/" + std::to_string(i) + std::string(size, 'x'));
        chain.push_back({texts.back(), "/a.c", 1});
      }
      return cache.add(image, address, chain);
    };
    while (add()) REQUIRE(++address < 2'000'000);
    // Texts of 8000 leave up to an eighth of a block empty.
    CHECK(heap_in_use() - before < LineCache::kMostBytes + LineCache::kMostBytes / 4);
    CHECK(cache.find(image, address - 1));
    CHECK_FALSE(cache.find(image, address));
    cache.clear();
    CHECK(heap_in_use() - before < LineCache::kMaxBytes / 100);
    CHECK(cache.add(cache.of("id"), 1, chain_of("f", "/a.c", 3)));
  }
}
#endif
