// Brings settings into force. In ordinary context or in the child of a fork; allocates nothing from the
// program.
#pragma once

namespace profagent {

// At load, and when a client has changed a setting. The rates of the contention profiles are not here:
// requests have a say in them.
void follow_settings(bool has_heap_profile) noexcept;

// At load, and in the child of a fork: only the settings have a say.
void follow_contention_settings() noexcept;

}  // namespace profagent
