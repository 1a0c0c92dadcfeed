// Before all other of Boost's headers: an assertion of its that fails is not the program's end. It throws,
// and so costs the connection that it happens on, as everything does that is thrown in a handler.
#pragma once

#define BOOST_ENABLE_ASSERT_HANDLER
#include <boost/assert.hpp>
