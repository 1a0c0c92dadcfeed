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

}  // namespace

TEST_CASE("equal chains and equal texts are kept once") {
  LineCache cache;
  ImageLines& image = cache.of("id");
  CHECK(cache.add(image, 1, chain_of("f", "/a.c", 3)));
  CHECK(cache.add(image, 2, chain_of(std::string("f"), std::string("/a.c"), 3)));
  CHECK(cache.add(image, 3, chain_of("f", "/a.c", 4)));
  CHECK(cache.add(image, 4, {}));
  CHECK(image.by_address[1] == image.by_address[2]);
  CHECK(image.by_address[1] != image.by_address[3]);
  CHECK(image.by_address[1]->at(0).file.data() == image.by_address[3]->at(1).file.data());
  CHECK(image.by_address.contains(4));
  CHECK(image.by_address[4] == nullptr);
  CHECK(&cache.of("id") == &image);
}

TEST_CASE("long texts are kept, too") {
  LineCache cache;
  ImageLines& image = cache.of("id");
  for (const std::size_t size :
       {1UL, 2047UL, 2048UL, 2049UL, 8192UL, 3UL, 8000UL, 2048UL, 2048UL, 2048UL, 2047UL}) {
    const std::string text(size, static_cast<char>('a' + size % 26));
    CHECK(cache.add(image, size, chain_of(text, "/a.c", 1)));
    CHECK(image.by_address[size]->at(0).function == text);
  }
  // Nothing has been written over.
  for (const auto& [size, chain] : image.by_address)
    CHECK(chain->at(0).function == std::string(size, static_cast<char>('a' + size % 26)));
}

#ifndef __SANITIZE_ADDRESS__  // whose allocator tells nothing of itself
TEST_CASE("the cache is full at about what it says, and then it is emptied") {
  const std::size_t before = mallinfo2().uordblks;
  LineCache cache;
  ImageLines& image = cache.of("id");
  std::uint64_t address = 0;
  for (; !cache.is_full(); ++address) {
    const std::string name = "a_function_with_a_name_of_its_own_" + std::to_string(address);
    CHECK(cache.add(image, address, chain_of(name, "/some/folder/file" + std::to_string(address % 100), 1)));
  }
  const std::size_t used = mallinfo2().uordblks - before;
  CHECK(used > LineCache::kMaxBytes / 2);
  CHECK(used < LineCache::kMaxBytes * 3 / 2);
  CHECK(address > 5000);
  cache.clear();
  CHECK_FALSE(cache.is_full());
  CHECK(mallinfo2().uordblks - before < LineCache::kMaxBytes / 100);
}

TEST_CASE("what a helper says is never kept beyond a bound, however it is made") {
  for (const std::size_t size : {0UL, 10UL, 2049UL, 8000UL}) {
    INFO(size);
    const std::size_t before = mallinfo2().uordblks;
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
    while (add()) REQUIRE(++address < 1'000'000);
    CHECK(mallinfo2().uordblks - before < LineCache::kMostBytes * 3 / 2);
    CHECK(image.by_address.size() == address);
    cache.clear();
    CHECK(mallinfo2().uordblks - before < LineCache::kMaxBytes / 100);
    CHECK(cache.add(cache.of("id"), 1, chain_of("f", "/a.c", 3)));
  }
}
#endif
