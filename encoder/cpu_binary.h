// A CPU profile in the form of gperftools, which is older than pprof's protobuf: words of 64 bits, then the
// memory map as text. For google-pprof, the Perl program.
#pragma once

#include <string_view>

#include "encoder/profile.h"
#include "encoder/sink.h"

namespace profagent::encoder {

// `profile` has the sample type "samples" first and its period in ns. Samples that stand for less than one
// are left out; labels are not told, so samples that only they tell apart come one after the other.
// `memory_map`: lines of /proc/self/maps.
void write_cpu_binary(const Profile& profile, std::string_view memory_map, Sink& sink);

}  // namespace profagent::encoder
