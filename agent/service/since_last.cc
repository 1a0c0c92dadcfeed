#include "agent/service/since_last.h"

#include <string>
#include <utility>

#include "agent/safe/counters.h"
#include "encoder/delta.h"
#include "encoder/pprof.h"

namespace profagent::service {

namespace {

// Our thread may end when nobody asks, or for a change of rights, and a new one knows nothing of the old
// one's answers.
bool may_have_forgotten() {
  return safe::counters.service_starts.load(std::memory_order_relaxed) > 1;
}

class SinceLastSource final : public ProfileSource {
 public:
  explicit SinceLastSource(SinceLast what) : what_(std::move(what)) {}

  [[nodiscard]] const ProfileKind& kind() const override { return what_.kind; }
  std::uint64_t count() override { return what_.count(); }
  std::string state() override { return what_.state(); }
  std::string snapshot(const Query& query) override;
  std::string text(std::int64_t /*debug*/, const Query& /*query*/) override { refuse_text(); }
  std::unique_ptr<Collection> begin(double /*seconds*/, const Query& /*query*/) override { refuse_text(); }

 private:
  [[noreturn]] static void refuse_text() {
    throw BadRequest("what has changed since the last request is told as a binary profile of now only");
  }

  SinceLast what_;
  ReadableLater last_;
};

std::string SinceLastSource::snapshot(const Query& query) {
  const SymbolWish wish = parse_symbol_wish(query);
  ReadableLater reading = what_.read();
  const encoder::Profile now = reading(wish);
  std::string answer;
  if (last_) {
    answer = encoder::gzipped_pprof(encoder::delta(last_(wish), now, what_.absolute));
  } else if (may_have_forgotten()) {
    // Rather too little than twice.
    encoder::Profile nothing = encoder::delta(now, now, what_.absolute);
    nothing.add_comment("counting begins here: an earlier thread of the agent may have told what was before");
    answer = encoder::gzipped_pprof(nothing);
  } else {
    answer = encoder::gzipped_pprof(now);
  }
  // At last: an answer that could not be made is told with the next one.
  last_ = std::move(reading);
  return answer;
}

}  // namespace

std::unique_ptr<ProfileSource> make_since_last_source(SinceLast what) {
  return std::make_unique<SinceLastSource>(std::move(what));
}

}  // namespace profagent::service
