// Text in a fixed buffer, for code that runs on the program's thread: nothing is allocated, what does not fit
// is cut.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace profagent::service {

template <std::size_t kCapacity>
class FixedText {
 public:
  FixedText& add(std::string_view text) noexcept {
    for (const char c : text) {
      if (size_ + 1 >= kCapacity) {
        cut_ = true;
        break;
      }
      text_[size_++] = c;
    }
    text_[size_] = '\0';
    return *this;
  }

  FixedText& add(std::uint64_t number) noexcept {
    char digits[20];
    std::size_t begin = sizeof(digits);
    do {
      digits[--begin] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
    return add(std::string_view(digits + begin, sizeof(digits) - begin));
  }

  void clear() noexcept { *this = FixedText(); }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] bool was_cut() const noexcept { return cut_; }
  [[nodiscard]] const char* c_str() const noexcept { return text_; }
  [[nodiscard]] std::string_view view() const noexcept { return {text_, size_}; }

 private:
  std::size_t size_ = 0;
  bool cut_ = false;
  char text_[kCapacity] = {};
};

using ProblemText = FixedText<1024>;

}  // namespace profagent::service
