// What a profile that grows has gained over a time: one taken at the end, less one taken at the begin. On our
// thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "agent/service/routes.h"
#include "agent/service/text_parts.h"
#include "encoder/delta.h"
#include "encoder/pprof.h"

namespace profagent::service {

class DeltaCollection final : public Collection {
 public:
  using Snapshot = std::function<encoder::Profile()>;

  explicit DeltaCollection(Snapshot snapshot)
      : snapshot_(std::move(snapshot)), started_(monotonic_nanos()), before_(snapshot_()) {}

  std::string finish() override {
    encoder::Profile delta = encoder::delta(before_, snapshot_());
    delta.set_duration(monotonic_nanos() - started_);
    return encoder::gzipped_pprof(delta);
  }

 private:
  Snapshot snapshot_;
  std::int64_t started_;
  encoder::Profile before_;
};

}  // namespace profagent::service
