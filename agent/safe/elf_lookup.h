// Finds dynamic symbols in the objects that were loaded with the program, by reading their own hash tables:
// no loader lock, no allocation (a dlsym that finds nothing allocates its error text), no error state.
// For start-up, when the list of objects does not change yet. Source of the formats: the ELF gABI and
// https://sourceware.org/gnu-gabi/program-loading-and-dynamic-linking.txt (DT_GNU_HASH).
#pragma once

#include <link.h>

namespace profagent::safe {

// The program's objects in lookup order: the executable, preloaded objects, their dependencies.
[[nodiscard]] const link_map* first_object() noexcept;
// The agent's own, or nullptr when it is not in that list (another namespace).
[[nodiscard]] const link_map* own_object() noexcept;

// The address of the function `name` that `object` itself defines and exports, or nullptr. Default versions
// are preferred, old ones accepted.
[[nodiscard]] void* find_function(const link_map& object, const char* name) noexcept;

// The first object from `from` on that defines the function; nullptr when none does.
[[nodiscard]] const link_map* find_definer(const link_map* from, const char* name) noexcept;

// Whether any object was linked with it, by name: else it was preloaded.
[[nodiscard]] bool is_needed(const link_map& object) noexcept;

}  // namespace profagent::safe
