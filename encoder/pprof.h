// The pprof wire form of a profile: google/pprof's profile.proto, ids 1..N in message order, strings as the
// profile holds them ("" first).
#pragma once

#include <string>

#include "encoder/profile.h"
#include "encoder/sink.h"

namespace profagent::encoder {

// The bare protobuf message. Holds one sample, location or string at a time, never the whole.
void write_pprof(const Profile& profile, Sink& sink);

// What an HTTP client gets and a .pb.gz file holds.
void write_gzipped_pprof(const Profile& profile, Sink& sink);
[[nodiscard]] std::string gzipped_pprof(const Profile& profile);

}  // namespace profagent::encoder
