// What demangle() is made of: libiberty's two readers, and where they write.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include "agent/service/demangle.h"

namespace profagent::service {

struct DemangledTooLong {};

// libiberty's callback. It writes in pieces and cannot be told to stop, and back references can double the
// text at every step: so the callback throws, through C functions (they have unwind tables, as all on our
// machines). These hold memory only while they write a Rust name that is not ASCII, so there the limit is
// twice as high: it is met at the next ::.
class DemangledText {
 public:
  static void append(const char* piece, std::size_t length, void* self);
  [[nodiscard]] std::string take() { return std::move(text_); }

 private:
  // Template arguments are written before they are cut.
  static constexpr std::size_t kMaxWritten = 1UL << 20;
  std::string text_;
};

// Empty when the name is not C++'s, or Rust's.
[[nodiscard]] std::string demangle_cplus(const std::string& name, DemangleStyle style);
[[nodiscard]] std::string demangle_rust(const std::string& name, DemangleStyle style);

}  // namespace profagent::service
