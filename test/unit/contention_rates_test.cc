#include "agent/service/contention_rates.h"

#include <catch2/catch.hpp>

#include <cstddef>
#include <memory>
#include <new>

#include "agent/safe/arena.h"
#include "agent/safe/contention_recorder.h"
#include "agent/safe/settings.h"

namespace profagent::service {
namespace {

using safe::contention_recorder;

constexpr std::size_t kEnough = std::size_t{64} << 20;

// First: what it is about is made once.
TEST_CASE("without memory for those that wait the mutex profile stays off, and comes on when there is some") {
  ContentionRates rates;
  safe::arena.set_limit(safe::arena.mapped());
  safe::settings.block_profile_rate.store(7);
  safe::settings.mutex_profile_fraction.store(1);
  safe::settings.contention_labels.store(2);
  rates.update();
  CHECK(contention_recorder.block_rate() == 7);
  CHECK(contention_recorder.mutex_fraction() == 0);
  CHECK_FALSE(contention_recorder.is_telling_holders());
  CHECK_THROWS_AS(ContentionRates::Request(rates, ContentionKind::kMutex, 1, false, false), std::bad_alloc);
  CHECK_FALSE(rates.requested(ContentionKind::kMutex));
  // As after a PUT of both.
  safe::arena.set_limit(kEnough);
  rates.update();
  CHECK(contention_recorder.mutex_fraction() == 1);
  CHECK(contention_recorder.is_telling_holders());
  safe::settings.block_profile_rate.store(0);
  safe::settings.mutex_profile_fraction.store(0);
  safe::settings.contention_labels.store(0);
  rates.update();
}

TEST_CASE("what requests want ends with them, and those that are lost end with the service") {
  auto rates = std::make_unique<ContentionRates>();
  {
    const ContentionRates::Request request(*rates, ContentionKind::kBlock, 1000, false, false);
    CHECK(contention_recorder.block_rate() == 1000);
    CHECK(rates->requested(ContentionKind::kBlock) == 1000);
  }
  CHECK(contention_recorder.block_rate() == 0);
  // As with the connections of a service that was robbed of its descriptors: never destroyed.
  alignas(ContentionRates::Request) std::byte lost[2][sizeof(ContentionRates::Request)];
  new (&lost[0]) ContentionRates::Request(*rates, ContentionKind::kBlock, 1000, true, false);
  new (&lost[1]) ContentionRates::Request(*rates, ContentionKind::kMutex, 1, false, true);
  CHECK(contention_recorder.block_rate() == 1000);
  CHECK(contention_recorder.mutex_fraction() == 1);
  CHECK(contention_recorder.is_telling_holders());
  rates.reset();
  CHECK(contention_recorder.block_rate() == 0);
  CHECK(contention_recorder.mutex_fraction() == 0);
  CHECK_FALSE(contention_recorder.is_telling_holders());
}

}  // namespace
}  // namespace profagent::service
