// What the helper and the agent read from each other.
#include <algorithm>
#include <cstdlib>

#include "agent/service/line_wire.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace wire = profagent::service::line_wire;
  const auto packet = std::as_bytes(std::span(data, size));
  // What was understood is what would have been written.
  if (const auto request = wire::decode_request(packet)) {
    const auto again = wire::encode(*request);
    if (!std::ranges::equal(again, packet)) std::abort();
  }
  const auto answer = wire::decode_answer(packet);
  if (!answer) return 0;
  // An answer may have been packed otherwise, but says the same.
  wire::AnswerWriter writer(answer->id, answer->first);
  for (const wire::Chain& chain : answer->chains) {
    if (!writer.add(chain)) return 0;
  }
  const auto again = writer.finish();
  const auto read = wire::decode_answer(again);
  if (!read || read->chains != answer->chains) std::abort();
  return 0;
}
