// What the helper and the agent read from each other.
#include <cstdlib>

#include "agent/service/line_wire.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace wire = profagent::service::line_wire;
  const auto packet = std::as_bytes(std::span(data, size));
  static_cast<void>(wire::decode_request(packet));
  const auto answer = wire::decode_answer(packet);
  if (!answer) return 0;
  // What was understood can be written again, and is the same.
  wire::AnswerWriter writer(answer->id, answer->first);
  for (const wire::Chain& chain : answer->chains) {
    if (!writer.add(chain)) return 0;
  }
  const auto again = writer.finish();
  const auto read = wire::decode_answer(again);
  if (!read || read->chains != answer->chains) std::abort();
  return 0;
}
