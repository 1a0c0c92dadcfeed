// Readable names of C++ and Rust functions, in the styles of google/pprof's -symbolize=demangle=...
//
//                                           kDefault                    kTemplates
//   _ZN2ns6Worker3runEv                     ns::Worker::run             ns::Worker::run
//   _ZNSt6vectorIiSaIiEE9push_backERKi      std::vector::push_back      std::vector<int, std::allocator<int>
//   >::push_back _ZN4core3ptr17h0123456789abcdefE        core::ptr                   core::ptr
//   _RINvNtC3std3mem8align_ofjE             std::mem::align_of::<>      std::mem::align_of::<usize>
//
// kFull adds parameters, return types and clone suffixes; kNone changes nothing.
//
// Any thread with kDemangleStack left; allocates with operator new and malloc only. A name comes back as it
// is when it is not mangled or in another language's way (Swift, D), is damaged, is longer than kMaxMangled,
// or would be longer than kMaxDemangled.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace profagent::service {

enum class DemangleStyle { kDefault, kTemplates, kFull, kNone };

// The longest of 213,000 names of real libraries has 814. Hostile ones take up to 112 bytes of stack for a
// character while they are read, and up to half a MiB for any length while they are printed
// (docs/decisions/016-libiberty.md).
inline constexpr std::size_t kMaxMangled = 4096;
inline constexpr std::size_t kDemangleStack = 768 << 10;
// The longest name that google/pprof's readers take.
inline constexpr std::size_t kMaxDemangled = 65535;

[[nodiscard]] std::string demangle(std::string_view linker_name,
                                   DemangleStyle style = DemangleStyle::kDefault);

}  // namespace profagent::service
