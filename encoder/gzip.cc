#include "encoder/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <new>
#include <stdexcept>

namespace profagent::encoder {
namespace {

constexpr int kGzipWindow = 15 + 16;  // the largest window; 16 asks for the gzip wrapping
constexpr int kDefaultMemory = 8;
constexpr int kUnknownSystem = 255;

// zlib is C: no exception may pass through it.
voidpf allocate(voidpf /*opaque*/, uInt items, uInt size) {
  return ::operator new (std::size_t{items} * size, std::nothrow);
}

void release(voidpf /*opaque*/, voidpf block) {
  ::operator delete(block);
}

}  // namespace

struct GzipWriter::Stream {
  z_stream z = {};
  gz_header header = {};  // read by zlib with the first output
  std::array<char, std::size_t{16} << 10U> output;

  Stream() {  // NOLINT(cppcoreguidelines-pro-type-member-init): the output is written before it is read
    z.zalloc = allocate;
    z.zfree = release;
    if (deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, kGzipWindow, kDefaultMemory, Z_DEFAULT_STRATEGY) != Z_OK) {
      throw std::bad_alloc();
    }
    header.os = kUnknownSystem;
    deflateSetHeader(&z, &header);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { deflateEnd(&z); }

  // One step of the compressor; true when it has used up the input (or, at the end, has said everything).
  bool step(int mode, Sink& out) {
    z.next_out = reinterpret_cast<Bytef*>(output.data());
    z.avail_out = static_cast<uInt>(output.size());
    const int result = deflate(&z, mode);
    if (result == Z_STREAM_ERROR) throw std::logic_error("gzip: written after the end");
    out.write({output.data(), output.size() - z.avail_out});
    return mode == Z_FINISH ? result == Z_STREAM_END : z.avail_in == 0;
  }
};

GzipWriter::GzipWriter(Sink& out) : stream_(std::make_unique<Stream>()), out_(out) {}
GzipWriter::~GzipWriter() = default;

void GzipWriter::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::size_t part = std::min<std::size_t>(bytes.size(), std::numeric_limits<uInt>::max());
    // zlib's interface is not const correct; it only reads.
    stream_->z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream_->z.avail_in = static_cast<uInt>(part);
    while (!stream_->step(Z_NO_FLUSH, out_)) {
    }
    bytes.remove_prefix(part);
  }
}

void GzipWriter::finish() {
  while (!stream_->step(Z_FINISH, out_)) {
  }
}

}  // namespace profagent::encoder
