// At which rates waits are recorded: those of the settings, and for as long as a request wants it, its own.
// On our thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace profagent::service {

enum class ContentionKind : std::uint8_t { kBlock, kMutex };

class ContentionRates {
 public:
  ContentionRates() { update(); }
  // Requests that were lost with their connections (HttpEnd::kRobbed) end here.
  ~ContentionRates();
  ContentionRates(const ContentionRates&) = delete;
  ContentionRates& operator=(const ContentionRates&) = delete;

  // What one request asks for, until it is destroyed.
  class Request {
   public:
    // `rate`: 0 leaves it to the settings. The smallest of all rates that are not 0 is in force.
    Request(ContentionRates& rates, ContentionKind kind, std::int64_t rate, bool locks, bool holders);
    ~Request();
    Request(const Request&) = delete;
    Request& operator=(const Request&) = delete;

   private:
    friend class ContentionRates;
    ContentionRates& rates_;
    ContentionKind kind_;
    std::int64_t rate_;
    bool locks_;
    bool holders_;
  };

  // After a setting has changed. Without memory for those that wait the mutex profile and holders stay off.
  void update() noexcept;

  // The rate that is in force because a request wants it; nullopt when the setting decides.
  [[nodiscard]] std::optional<std::int64_t> requested(ContentionKind kind) const;

 private:
  [[nodiscard]] std::int64_t rate_of(ContentionKind kind) const;

  std::vector<const Request*> requests_;
};

}  // namespace profagent::service
