// A gzip file in one member with the header that Go writes (1f 8b 08 00 00000000 04 ff: no name, no time,
// fastest, unknown system). Equal input gives equal bytes. Memory: about 270 KiB, by operator new, never by
// the program's malloc.
#pragma once

#include <memory>
#include <string_view>

#include "encoder/sink.h"

namespace profagent::encoder {

class GzipWriter final : public Sink {
 public:
  // Writes to `out` as the compressor fills its buffer. Throws std::bad_alloc.
  explicit GzipWriter(Sink& out);
  ~GzipWriter() override;

  void write(std::string_view bytes) override;

  // Ends the file: without it the file is torn. Nothing may be written afterwards.
  void finish();

 private:
  struct Stream;

  std::unique_ptr<Stream> stream_;
  Sink& out_;
};

}  // namespace profagent::encoder
