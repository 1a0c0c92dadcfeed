// What a profile that grows has gained over a time: one read at the end, less one read at the begin. On our
// thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "agent/safe/clock.h"
#include "agent/service/routes.h"
#include "agent/service/text_parts.h"
#include "encoder/delta.h"
#include "encoder/pprof.h"

namespace profagent::service {

// The answer: `before` and `after` as they are read, `duration` in ns.
[[nodiscard]] inline std::string encoded_delta(const encoder::Profile& before, const encoder::Profile& after,
                                               std::int64_t duration) {
  encoder::Profile delta = encoder::delta(before, after);
  delta.set_duration(duration);
  return encoder::gzipped_pprof(delta);
}

// `Reading` holds what was counted and which stacks; the begin and the end are made readable together, at the
// end, so that a frame is described alike in both and searched for once.
template <typename Reading>
class DeltaCollection final : public Collection {
 public:
  using Read = std::function<Reading()>;
  using Describe = std::function<encoder::Profile(const Reading&)>;

  DeltaCollection(Read read, Describe describe)
      : read_(std::move(read)),
        describe_(std::move(describe)),
        started_(safe::monotonic_now()),
        before_(read_()) {}

  std::string finish() override {
    const std::int64_t duration = safe::monotonic_now() - started_;
    const encoder::Profile after = describe_(read_());
    return encoded_delta(describe_(before_), after, duration);
  }

 private:
  Read read_;
  Describe describe_;
  std::int64_t started_;
  Reading before_;
};

}  // namespace profagent::service
