// Where encoded bytes go. The writers of this folder call write() with pieces of bounded size, so the whole
// encoded form never has to exist at once. write() may throw; the writer is then of no further use.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace profagent::encoder {

class Sink {
 public:
  Sink() = default;
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;
  virtual ~Sink() = default;

  virtual void write(std::string_view bytes) = 0;
};

// Collects everything; for answers small enough to be held.
class StringSink final : public Sink {
 public:
  void write(std::string_view bytes) override { text_.append(bytes); }

  [[nodiscard]] std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

}  // namespace profagent::encoder
