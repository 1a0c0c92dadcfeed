// Line tables whose folders are relative.
#include "agent/helper/line_folders.h"

#include <cstring>

#include <catch2/catch.hpp>

using namespace profagent::helper;

namespace {

// The texts' places: 0 the working folder, 6 a relative one, 13 an absolute one, and two of a compiler that
// calls another folder ".".
constexpr char kText[] = "/base\0../src\0/usr/include\0./home\0./src\0./../src";
const std::string kTexts(kText, sizeof(kText));
constexpr std::uint32_t kWork = 0, kRelative = 6, kAbsolute = 13, kMappedWork = 26, kMapped = 33, kAbove = 39,
                        kNone = 5;

template <typename T>
void put(std::vector<std::byte>& bytes, T value) {
  const auto raw = std::as_bytes(std::span(&value, 1));
  bytes.insert(bytes.end(), raw.begin(), raw.end());
}

std::vector<std::byte> unit(std::uint16_t version, const std::vector<std::uint32_t>& folders,
                            std::uint8_t form = 0x1f) {
  std::vector<std::byte> rest;
  put(rest, version);
  put<std::uint8_t>(rest, 8);
  put<std::uint8_t>(rest, 0);
  put<std::uint32_t>(rest, 0);
  for (int i = 0; i < 5; ++i) put<std::uint8_t>(rest, 1);
  put<std::uint8_t>(rest, 3);
  put<std::uint8_t>(rest, 0);
  put<std::uint8_t>(rest, 1);
  put<std::uint8_t>(rest, 1);     // one format
  put<std::uint8_t>(rest, 1);     // a path
  put<std::uint8_t>(rest, form);  // in .debug_line_str
  put<std::uint8_t>(rest, static_cast<std::uint8_t>(folders.size()));
  for (const std::uint32_t folder : folders) put(rest, folder);
  put<std::uint32_t>(rest, 0x12345678);
  std::vector<std::byte> bytes;
  put(bytes, static_cast<std::uint32_t>(rest.size()));
  bytes.insert(bytes.end(), rest.begin(), rest.end());
  return bytes;
}

// The folders of a unit as they read now.
std::vector<std::string> folders_of(const LineSections& sections, std::size_t unit_at, std::size_t count) {
  constexpr std::size_t kFirstFolder = 4 + 2 + 2 + 4 + 5 + 3 + 3 + 1;
  std::vector<std::string> folders;
  for (std::size_t i = 0; i < count; ++i) {
    std::uint32_t place = 0;
    std::memcpy(&place, sections.lines.data() + unit_at + kFirstFolder + i * sizeof(place), sizeof(place));
    folders.emplace_back(sections.texts.c_str() + place);
  }
  return folders;
}

}  // namespace

TEST_CASE("relative folders become absolute, in every unit") {
  auto lines = unit(5, {kWork, kRelative, kAbsolute});
  const std::size_t second = lines.size();
  const auto more = unit(5, {kAbsolute, kRelative});
  lines.insert(lines.end(), more.begin(), more.end());
  const LineSections sections = with_joined_folders(lines, kTexts);
  CHECK(sections.lines.size() == lines.size());
  CHECK(folders_of(sections, 0, 3) == std::vector<std::string>{"/base", "/base/../src", "/usr/include"});
  CHECK(folders_of(sections, second, 2) == std::vector<std::string>{"/usr/include", "/usr/include/../src"});
  CHECK(sections.texts.starts_with(kTexts));
}

TEST_CASE("folders that the compiler has mapped stay as they are, others do not") {
  const LineSections sections =
      with_joined_folders(unit(5, {kMappedWork, kMapped, kRelative, kAbsolute, kAbove}), kTexts);
  CHECK(folders_of(sections, 0, 5) ==
        std::vector<std::string>{"./home", "./src", "./home/../src", "/usr/include", "./home/./../src"});
  // With an absolute first one, they are no mapped ones.
  CHECK(folders_of(with_joined_folders(unit(5, {kWork, kMapped}), kTexts), 0, 2) ==
        std::vector<std::string>{"/base", "/base/./src"});
}

TEST_CASE("what is not understood stays as it is") {
  for (const auto& lines : {unit(4, {kWork, kRelative}), unit(5, {kWork, kRelative}, 0x08),
                            unit(5, {kNone, kRelative}), unit(5, {kWork, 1000}), unit(5, {})}) {
    const LineSections sections = with_joined_folders(lines, kTexts);
    CHECK(sections.lines == lines);
    CHECK(sections.texts == kTexts);
  }
}

TEST_CASE("a table that is cut is no harm") {
  const auto lines = unit(5, {kWork, kRelative, kAbsolute});
  for (std::size_t size = 0; size < lines.size(); ++size) {
    auto cut = std::vector(lines.begin(), lines.begin() + static_cast<std::ptrdiff_t>(size));
    CHECK(with_joined_folders(cut, kTexts).lines == cut);
    if (size < 4) continue;
    // As if the unit ended there.
    const auto length = static_cast<std::uint32_t>(size - 4);
    std::memcpy(cut.data(), &length, sizeof(length));
    CHECK(with_joined_folders(cut, kTexts).lines.size() == size);
  }
}
