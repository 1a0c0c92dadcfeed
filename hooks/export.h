// Marks a hook. The library is compiled with hidden visibility; the version script, made from table.def,
// then exports exactly the hooks.
#pragma once

#define PROFAGENT_EXPORT __attribute__((visibility("default")))
