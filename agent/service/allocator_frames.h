#pragma once
#include <string_view>
namespace profagent::service { inline bool is_allocator_frame(std::string_view n){return n.starts_with("operator new");} }
