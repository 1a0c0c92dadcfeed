// Where the C++ runtime keeps a thread's exceptions in flight. libstdc++.a has its own in dynamic TLS, which
// costs the .so a
// __tls_get_addr, and that calls the program's malloc at a thread's first use. With these two
// defined the linker leaves libstdc++'s object out. For the .so only, linked with a static libstdc++.

namespace __cxxabiv1 {

// As the Itanium C++ ABI lays it out (section 2.2.2).
struct __cxa_eh_globals {  // NOLINT(bugprone-reserved-identifier)
  void* caught_exceptions;
  unsigned int uncaught_exceptions;
};

namespace {

[[gnu::tls_model("initial-exec")]] constinit thread_local __cxa_eh_globals globals = {nullptr, 0};

}  // namespace

extern "C" __cxa_eh_globals* __cxa_get_globals() noexcept {
  return &globals;
}
extern "C" __cxa_eh_globals* __cxa_get_globals_fast() noexcept {
  return &globals;
}

}  // namespace __cxxabiv1
