#include "agent/helper/line_folders.h"

#include <cstring>
#include <map>
#include <string_view>
#include <utility>

namespace profagent::helper {

namespace {

constexpr std::uint64_t kPath = 1;           // DW_LNCT_path
constexpr std::uint64_t kInLineText = 0x1f;  // DW_FORM_line_strp
constexpr std::uint32_t kLongUnit = 0xfffffff0;
// Of the header behind its length: minimum instruction length to line range.
constexpr std::size_t kFixedBytes = 5;

// Reads forward; once it has come to the end, everything is zero.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, std::size_t at) noexcept : bytes_(bytes), at_(at) {}

  template <typename T>
  T get() noexcept {
    T value{};
    if (sizeof(T) > left()) {
      fail();
    } else {
      std::memcpy(&value, bytes_.data() + at_, sizeof(T));
      at_ += sizeof(T);
    }
    return value;
  }
  std::uint64_t leb() noexcept {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = get<std::uint8_t>();
      value |= static_cast<std::uint64_t>(byte & 0x7fU) << shift;
      if ((byte & 0x80U) == 0) return value;
    }
    fail();
    return 0;
  }
  void skip(std::size_t bytes) noexcept {
    if (bytes > left()) return fail();
    at_ += bytes;
  }

  [[nodiscard]] std::size_t at() const noexcept { return at_; }
  [[nodiscard]] std::size_t left() const noexcept { return bytes_.size() - at_; }
  [[nodiscard]] bool failed() const noexcept { return failed_; }

 private:
  void fail() noexcept {
    at_ = bytes_.size();
    failed_ = true;
  }

  std::span<const std::byte> bytes_;
  std::size_t at_;
  bool failed_ = false;
};

// A compiler that was told to call its working folder "." (-ffile-prefix-map, as Debian's packages are built)
// has written so in front of all other folders below it. Those are relative to the same as the first one.
bool is_whole(std::string_view folder, std::string_view base) {
  if (folder.starts_with('/') || base.empty()) return true;
  return !base.starts_with('/') &&
         (folder == "." || (folder.starts_with("./") && !folder.starts_with("./..")));
}

class Rewriter {
 public:
  Rewriter(std::span<const std::byte> lines, std::string_view texts)
      : result_{.lines = {lines.begin(), lines.end()}, .texts = std::string(texts)} {}

  LineSections run() {
    // A 64-bit unit ends it: compilers do not write them.
    for (Cursor units(result_.lines, 0); units.left() != 0;) {
      const auto length = units.get<std::uint32_t>();
      if (length >= kLongUnit || length > units.left()) break;
      rewrite_unit(Cursor(std::span(result_.lines).first(units.at() + length), units.at()));
      units.skip(length);
    }
    return std::move(result_);
  }

 private:
  void rewrite_unit(Cursor header) {
    constexpr std::uint16_t kVersion = 5;
    if (header.get<std::uint16_t>() != kVersion) return;
    header.skip(2);  // sizes of addresses and segments
    header.skip(sizeof(std::uint32_t) + kFixedBytes);
    const auto opcodes = header.get<std::uint8_t>();
    if (opcodes == 0) return;
    header.skip(opcodes - 1U);
    // One place in the texts, as all compilers write it.
    if (header.get<std::uint8_t>() != 1 || header.leb() != kPath || header.leb() != kInLineText) return;
    const std::uint64_t folders = header.leb();
    std::string base;
    for (std::uint64_t i = 0; i < folders; ++i) {
      const std::size_t at = header.at();
      const auto place = header.get<std::uint32_t>();
      if (header.failed() || place >= result_.texts.size()) return;
      const std::string folder(result_.texts.c_str() + place);
      if (i == 0) {
        base = folder;
      } else if (!is_whole(folder, base)) {
        const std::uint32_t better = place_of(std::string(base).append("/").append(folder));
        std::memcpy(result_.lines.data() + at, &better, sizeof(better));
      }
    }
  }

  std::uint32_t place_of(const std::string& text) {
    const auto [known, is_new] = places_.try_emplace(text, static_cast<std::uint32_t>(result_.texts.size()));
    if (is_new) result_.texts.append(text).push_back('\0');
    return known->second;
  }

  LineSections result_;
  std::map<std::string, std::uint32_t> places_;
};

}  // namespace

LineSections with_joined_folders(std::span<const std::byte> lines, std::string_view texts) {
  return Rewriter(lines, texts).run();
}

}  // namespace profagent::helper
