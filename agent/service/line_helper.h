// The helper process as our thread sees it: starts it, sends it one request at a time, and waits for answers
// no longer than it is told, and never when our thread is asked to stop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "agent/service/line_helper_start.h"
#include "agent/service/line_wire.h"

namespace profagent::service {

// By safe::monotonic_now().
using MonotonicNanos = std::int64_t;

class LineHelper {
 public:
  enum class Got : std::uint8_t { kAnswer, kNothingYet, kGone };

  LineHelper() = default;
  LineHelper(const LineHelper&) = delete;
  LineHelper& operator=(const LineHelper&) = delete;
  ~LineHelper() { end(); }

  [[nodiscard]] bool is_running() const noexcept { return socket_ >= 0; }

  // Runs the library in the file `library`, with `memory` bytes at most; waits until `deadline`. Empty when
  // it is ready, else why it is not, as the second half of a sentence.
  std::string start(int library, std::uint64_t memory, MonotonicNanos deadline);

  // Hands over `file`, too. False when the helper is gone. Not before the last request is answered.
  bool send(const line_wire::Request& request, int file);

  // The next answer, which is valid until the next call; waits until `deadline`. What is no answer ends the
  // helper: kGone.
  Got receive(line_wire::Answer& answer, MonotonicNanos deadline);

  // It ends by itself when it finds that nobody is there; whoever is its parent gets rid of it.
  void end() noexcept;

 private:
  Got receive_packet(std::span<const std::byte>& packet, MonotonicNanos deadline);

  HelperStart start_;
  int socket_ = -1;
  std::vector<std::byte> room_;
};

}  // namespace profagent::service
