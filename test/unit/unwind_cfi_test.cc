// Call-frame information built by hand: entries, encodings, programs, packed rules.
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <vector>

#include <catch2/catch.hpp>

#include "agent/safe/cfi.h"
#include "agent/safe/cfi_memory.h"
#include "agent/safe/rule_cache.h"

using namespace profagent::safe;

namespace {

using Bytes = std::vector<std::uint8_t>;

// An .eh_frame with one CIE and one FDE, and an .eh_frame_hdr in front, placed in one buffer. Functions are
// at made-up addresses relative to the buffer.
class Image {
 public:
  std::uint8_t pointer_encoding = 0x1b;  // pcrel | sdata4
  std::uint8_t version = 1;
  bool table = true;
  bool personality = false;
  bool signal_frame = false;
  bool long_length = false;
  Bytes program;
  static constexpr std::uintptr_t kFunction = 0x4000;
  static constexpr std::uintptr_t kSize = 0x100;

  void build() {
    bytes_.assign(0x1000, 0);
    at_ = kFrames;
    const std::size_t common_start = at_;
    std::size_t length = open();
    put<std::uint32_t>(0);
    put<std::uint8_t>(version);
    for (const char letter : std::string("z") + (personality ? "PL" : "") + "R" + (signal_frame ? "S" : "")) {
      put<std::uint8_t>(static_cast<std::uint8_t>(letter));
    }
    put<std::uint8_t>(0);
    put<std::uint8_t>(1);     // code factor
    put<std::uint8_t>(0x78);  // data factor -8
    put<std::uint8_t>(16);
    put<std::uint8_t>(static_cast<std::uint8_t>(1 + (personality ? 6 : 0)));
    if (personality) {
      put<std::uint8_t>(0x9b);  // indirect | pcrel | sdata4
      put<std::uint32_t>(0x77777777);
      put<std::uint8_t>(0x1b);
    }
    put<std::uint8_t>(pointer_encoding);
    for (const int byte : {0x0c, 7, 8, 0x90, 1})
      put(static_cast<std::uint8_t>(byte));  // CFA = rsp + 8, rip at CFA - 8
    close(length);
    entry_ = at_;
    length = open();
    put<std::uint32_t>(static_cast<std::uint32_t>(at_ - common_start));
    put_pointer(function());
    put_number(kSize);
    if (personality) {
      put<std::uint8_t>(4);
      put<std::uint32_t>(0x55555555);
    } else {
      put<std::uint8_t>(0);
    }
    put_all(program);
    close(length);
    put<std::uint32_t>(0);
    build_header();
  }

  std::uintptr_t base() const { return reinterpret_cast<std::uintptr_t>(bytes_.data()); }
  std::uintptr_t header() const { return base(); }
  std::uintptr_t function() const { return base() + kFunction; }
  CfiMemory memory(CfiMemory::Trust trust = CfiMemory::Trust::kDirect) const {
    return {base(), base() + bytes_.size(), trust};
  }
  bool find(std::uintptr_t offset, CfiFunction& found, CfiMemory::Trust trust = CfiMemory::Trust::kDirect) {
    CfiMemory image = memory(trust);
    return find_function(image, header(), function() + offset, found);
  }
  bool row(std::uintptr_t offset, CfiRow& row, CfiMemory::Trust trust = CfiMemory::Trust::kDirect) {
    CfiMemory image = memory(trust);
    CfiFunction found;
    return find_function(image, header(), function() + offset, found) &&
           find_row(image, found, function() + offset, row);
  }
  Bytes& bytes() { return bytes_; }
  std::size_t entry() const { return entry_; }

 private:
  static constexpr std::size_t kFrames = 0x100;

  template <typename T>
  void put(T value) {
    std::memcpy(&bytes_[at_], &value, sizeof value);
    at_ += sizeof value;
  }
  void put_all(const Bytes& values) {
    for (const std::uint8_t value : values) put(value);
  }
  std::size_t open() {
    if (long_length) {
      put<std::uint32_t>(0xffffffff);
      put<std::uint64_t>(0);
    } else {
      put<std::uint32_t>(0);
    }
    return at_;
  }
  void close(std::size_t start) {
    while (at_ % 8 != 0) put<std::uint8_t>(0);
    const std::uint64_t length = at_ - start;
    std::memcpy(&bytes_[start - (long_length ? 8 : 4)], &length, long_length ? 8 : 4);
  }
  void put_number(std::uint64_t value) {
    switch (pointer_encoding & 0x0f) {
      case 0x00:
      case 0x04:
      case 0x0c:
        return put<std::uint64_t>(value);
      case 0x02:
      case 0x0a:
        return put<std::uint16_t>(static_cast<std::uint16_t>(value));
      case 0x01:
      case 0x09:
        for (int i = 0; i < 9; ++i)
          put<std::uint8_t>(static_cast<std::uint8_t>((value >> (7 * i) & 0x7f) | 0x80));
        return put<std::uint8_t>(static_cast<std::uint8_t>(value >> 63 != 0 ? 0x7f : 0));
      default:
        return put<std::uint32_t>(static_cast<std::uint32_t>(value));
    }
  }
  void put_pointer(std::uintptr_t value) {
    switch (pointer_encoding & 0x70) {
      case 0x10:
        return put_number(value - (base() + at_));
      case 0x30:
        return put_number(value - header());
      case 0x50:
        while ((base() + at_) % 8 != 0) put<std::uint8_t>(0);
        return put<std::uint64_t>(value);
      default:
        return put_number(value);
    }
  }
  void build_header() {
    at_ = 0;
    put<std::uint8_t>(1);
    put<std::uint8_t>(0x1b);
    put<std::uint8_t>(table ? 0x03 : 0xff);
    put<std::uint8_t>(table ? 0x3b : 0xff);
    put<std::uint32_t>(static_cast<std::uint32_t>(kFrames - at_));
    if (!table) return;
    put<std::uint32_t>(1);
    put<std::uint32_t>(kFunction);
    put<std::uint32_t>(static_cast<std::uint32_t>(entry_));
  }

  Bytes bytes_;
  std::size_t at_ = 0;
  std::size_t entry_ = 0;
};

CfiRow row_of(const Bytes& program, std::uintptr_t offset = 0x80, bool expect = true) {
  Image image;
  image.program = program;
  image.build();
  CfiRow row;
  CHECK(image.row(offset, row) == expect);
  return row;
}

}  // namespace

TEST_CASE("a function is found from its first to its last byte, and nowhere else") {
  Image image;
  image.build();
  CfiFunction found;
  CHECK(image.find(0, found));
  CHECK(found.begin == image.function());
  CHECK(found.end == image.function() + Image::kSize);
  CHECK(image.find(Image::kSize - 1, found));
  CHECK_FALSE(image.find(Image::kSize, found));
  CHECK_FALSE(image.find(static_cast<std::uintptr_t>(-1), found));
}

TEST_CASE("without a search table the entries are scanned") {
  Image image;
  image.table = false;
  image.build();
  CfiFunction found;
  CHECK(image.find(5, found));
  CHECK_FALSE(image.find(Image::kSize, found));
}

TEST_CASE("memory that is not trusted gives the same answers") {
  Image image;
  image.program = {0x0e, 0x20};
  image.build();
  CfiRow row;
  REQUIRE(image.row(3, row, CfiMemory::Trust::kProbe));
  CHECK(row.cfa_value == 0x20);
}

TEST_CASE("every pointer encoding that linkers and assemblers write") {
  for (const int encoding : {0x1b, 0x1c, 0x1a, 0x10, 0x3b, 0x3c, 0x00, 0x04, 0x0c, 0x50, 0x19, 0x11}) {
    CAPTURE(encoding);
    Image image;
    image.pointer_encoding = static_cast<std::uint8_t>(encoding);
    image.build();
    CfiFunction found;
    REQUIRE(image.find(7, found));
    CHECK(found.begin == image.function());
    CHECK(found.end == image.function() + Image::kSize);
  }
  for (const int encoding : {0x9b, 0x20, 0x60, 0x05, 0xff}) {
    CAPTURE(encoding);
    Image image;
    image.pointer_encoding = static_cast<std::uint8_t>(encoding);
    image.build();
    CfiFunction found;
    CHECK_FALSE(image.find(7, found));
  }
}

TEST_CASE("augmentations: personality, LSDA, signal frame; version 3; 64-bit lengths") {
  Image image;
  image.personality = true;
  image.signal_frame = true;
  image.version = 3;
  image.long_length = true;
  image.program = {0x0e, 0x30};
  image.build();
  CfiFunction found;
  REQUIRE(image.find(7, found));
  CHECK(found.signal_frame);
  CfiRow row;
  REQUIRE(image.row(7, row));
  CHECK(row.cfa_value == 0x30);
}

TEST_CASE("rows change at the very address that advance_loc says") {
  const Bytes program = {0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d, 6, 0x02, 0x40, 0x0c, 7, 8};
  CHECK(row_of(program, 0).cfa_value == 8);
  CHECK(row_of(program, 1).cfa_value == 16);
  CHECK(row_of(program, 1).rule[kRegisterBp] == CfiRule::kSavedAt);
  CHECK(row_of(program, 1).value[kRegisterBp] == -16);
  CHECK(row_of(program, 3).cfa_register == kRegisterSp);
  CHECK(row_of(program, 4).cfa_register == kRegisterBp);
  CHECK(row_of(program, 0x43).cfa_register == kRegisterBp);
  CHECK(row_of(program, 0x44).cfa_register == kRegisterSp);
}

TEST_CASE("advance_loc2, advance_loc4") {
  CHECK(row_of({0x03, 0x10, 0x00, 0x0e, 16}, 0x0f).cfa_value == 8);
  CHECK(row_of({0x03, 0x10, 0x00, 0x0e, 16}, 0x10).cfa_value == 16);
  CHECK(row_of({0x04, 0x10, 0, 0, 0, 0x0e, 16}, 0x0f).cfa_value == 8);
  CHECK(row_of({0x04, 0x10, 0, 0, 0, 0x0e, 16}, 0x10).cfa_value == 16);
}

TEST_CASE("set_loc") {
  Image image;
  image.build();
  // Its operand is a pcrel pointer: the program starts 17 bytes into the entry, its operand one further.
  const auto operand = static_cast<std::int32_t>(Image::kFunction + 0x20 - (image.entry() + 17 + 1));
  Bytes program = {0x01, 0, 0, 0, 0, 0x0e, 24};
  std::memcpy(&program[1], &operand, sizeof operand);
  image.program = program;
  image.build();
  CfiRow row;
  REQUIRE(image.row(0x1f, row));
  CHECK(row.cfa_value == 8);
  REQUIRE(image.row(0x20, row));
  CHECK(row.cfa_value == 24);
}

TEST_CASE("remember_state and restore_state nest, and bring back the CFA as well") {
  const Bytes program = {0x0e, 16, 0x0a, 0x0e, 32, 0x0a, 0x0c, 6, 48, 0x41, 0x0b, 0x41, 0x0b};
  CHECK(row_of(program, 0).cfa_value == 48);
  CHECK(row_of(program, 1).cfa_value == 32);
  CHECK(row_of(program, 1).cfa_register == kRegisterSp);
  CHECK(row_of(program, 2).cfa_value == 16);
  row_of({0x0b}, 0, false);
  row_of({0x0a, 0x0a, 0x0a, 0x0a}, 0, true);
  row_of({0x0a, 0x0a, 0x0a, 0x0a, 0x0a}, 0, false);
}

TEST_CASE("register rules") {
  CHECK(row_of({0x83, 4}).rule[3] == CfiRule::kSavedAt);
  CHECK(row_of({0x83, 4}).value[3] == -32);
  CHECK(row_of({0x05, 3, 4}).value[3] == -32);
  CHECK(row_of({0x11, 3, 0x7c}).value[3] == 32);
  CHECK(row_of({0x2f, 3, 4}).value[3] == 32);
  CHECK(row_of({0x07, 3}).rule[3] == CfiRule::kUndefined);
  CHECK(row_of({0x08, 3}).rule[3] == CfiRule::kUnchanged);
  CHECK(row_of({0x09, 3, 12}).rule[3] == CfiRule::kInRegister);
  CHECK(row_of({0x09, 3, 12}).value[3] == 12);
  CHECK(row_of({0x14, 7, 1}).rule[7] == CfiRule::kIs);
  CHECK(row_of({0x14, 7, 1}).value[7] == -8);
  CHECK(row_of({0x15, 7, 0x7f}).value[7] == 8);
  CHECK(row_of({0x10, 3, 2, 0x70, 0, 0x0e, 40}).rule[3] == CfiRule::kSavedAtComputed);
  CHECK(row_of({0x16, 3, 2, 0x70, 0, 0x0e, 40}).rule[3] == CfiRule::kIsComputed);
  CHECK(row_of({0x16, 3, 2, 0x70, 0, 0x0e, 40}).cfa_value == 40);
  CHECK(row_of({0x83, 4, 0xc3}).rule[3] == CfiRule::kUnspecified);
  CHECK(row_of({0x90 - 0x10 + 16, 4, 0x06, 16}).value[16] == -8);
  CHECK(row_of({0x2e, 0x80, 0x01, 0x0e, 40}).cfa_value == 40);
  // Vector registers are of no interest.
  CHECK(row_of({0x05, 33, 4, 0x0e, 40}).cfa_value == 40);
}

TEST_CASE("definitions of the CFA") {
  CHECK(row_of({0x0c, 6, 16}).cfa_register == 6);
  CHECK(row_of({0x12, 6, 0x7e}).cfa_value == 16);
  CHECK(row_of({0x13, 0x7d}).cfa_value == 24);
  CHECK(row_of({0x0d, 10}).cfa_register == 10);
  CHECK(row_of({0x0f, 3, 0x76, 0x78, 0x06}).cfa_computed);
  row_of({0x0f, 3, 0x76, 0x78, 0x06, 0x0e, 16}, 0, false);
  row_of({0x0c, 33, 16}, 0, false);
}

TEST_CASE("what makes no sense is refused") {
  row_of({0x3f}, 0, false);
  row_of({0x1c, 0}, 0, false);
  row_of({0x0f, 0xff, 0x7f}, 0, false);
  row_of({0x0e, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80}, 0, false);
  row_of({0x0e, 0xff, 0xff, 0xff, 0xff, 0x7f}, 0, false);
  Image image;
  image.build();
  CfiFunction found;
  const Bytes good = image.bytes();
  for (const std::uint32_t length : {0U, 0xfffffff0U, 0xffffffffU, 3U}) {
    CAPTURE(length);
    image.bytes() = good;
    std::memcpy(&image.bytes()[image.entry()], &length, sizeof length);
    CHECK_FALSE(image.find(7, found));
  }
  for (const std::uint32_t back : {0U, 1U, 0x7fffffffU, 0xffffffffU}) {
    CAPTURE(back);
    image.bytes() = good;
    std::memcpy(&image.bytes()[image.entry() + 4], &back, sizeof back);
    CHECK_FALSE(image.find(7, found));
  }
  image.bytes() = good;
  image.bytes()[0] = 2;
  CHECK_FALSE(image.find(7, found));
}

TEST_CASE("a rule packs into 32 bits and back") {
  for (const RuleKind kind : {RuleKind::kFromSp, RuleKind::kFromBp}) {
    for (const std::uint32_t cfa : {1U, 2U, 100U, PackedRule::kMaxWords}) {
      for (const std::uint32_t bp : {0U, 1U, 2U, 99U, PackedRule::kMaxWords}) {
        const PackedRule rule(PackedRule(kind, cfa, bp).bits());
        CHECK(rule.kind() == kind);
        CHECK(rule.cfa_offset() == cfa * 8);
        CHECK(rule.bp_distance() == bp * 8);
        CHECK(rule.is_plain());
      }
    }
  }
  CHECK_FALSE(PackedRule(RuleKind::kEnd).is_plain());
  CHECK(PackedRule().kind() == RuleKind::kNone);
}

TEST_CASE("only rules that the fast walk can follow are packed") {
  const auto packed = [](const Bytes& program) { return pack(row_of(program), false); };
  CHECK(packed({0x0e, 48}).bits() == PackedRule(RuleKind::kFromSp, 6, 0).bits());
  CHECK(packed({0x0e, 16, 0x86, 2}).bits() == PackedRule(RuleKind::kFromSp, 2, 2).bits());
  CHECK(packed({0x0c, 6, 16, 0x86, 2}).bits() == PackedRule(RuleKind::kFromBp, 2, 2).bits());
  CHECK(packed({0x0c, 6, 16, 0x86, 2, 0x83, 3}).bits() == PackedRule(RuleKind::kFromBp, 2, 2).bits());
  CHECK(packed({0x07, 16}).kind() == RuleKind::kEnd);
  CHECK(pack(row_of({0x0e, 48}), true).kind() == RuleKind::kFull);
  for (const Bytes& program : std::initializer_list<Bytes>{
           {0x0c, 3, 16},                // CFA in rbx
           {0x0f, 3, 0x76, 0x78, 0x06},  // computed
           {0x90, 2},                    // return address elsewhere
           {0x09, 6, 0},                 // rbp in a register
           {0x0e, 12},                   // not a multiple of eight
           {0x0e, 16, 0x86, 3},          // rbp's slot below rsp
           {0x14, 7, 0},                 // rsp not the CFA
           {0x0e, 0x88, 0x80, 0x40},     // a frame of a mebibyte
       }) {
    CAPTURE(program);
    CHECK(packed(program).kind() == RuleKind::kFull);
  }
}

TEST_CASE("the rule table tells every pc from every other") {
  RuleTable* table = rule_table();
  REQUIRE(table != nullptr);
  const Pc pc = 0x7f1234561234;
  table->put(pc, PackedRule(RuleKind::kFromSp, 3, 1));
  CHECK(table->find(pc).cfa_offset() == 24);
  for (unsigned bit = 0; bit < 47; ++bit) {
    CAPTURE(bit);
    CHECK(table->find(pc ^ (Pc{1} << bit)).kind() == RuleKind::kNone);
  }
  table->clear();
  CHECK(table->find(pc).kind() == RuleKind::kNone);
}
