#include "agent/service/demangle.h"

#include <catch2/catch.hpp>

#include "agent/service/allocator_frames.h"

using profagent::service::demangle;
using profagent::service::is_allocator_frame;

TEST_CASE("names lose parameters, template arguments and return types") {
  CHECK(demangle("_ZN2ns6Worker3runEv") == "ns::Worker::run");
  CHECK(demangle("_ZNSt6vectorIiSaIiEE9push_backERKi") == "std::vector::push_back");
  CHECK(demangle("_Z3addIiET_S0_S0_") == "add");
  CHECK(demangle("_ZNK3app3BoxIiE3getIlEET_v") == "app::Box::get");
  CHECK(demangle("_ZN12_GLOBAL__N_11fEi") == "(anonymous namespace)::f");
  CHECK(demangle("_ZN3app6taggedB5cxx11Ev") == "app::tagged[abi:cxx11]");
}

TEST_CASE("standard abbreviations, constructors, destructors") {
  CHECK(demangle("_ZNSo5flushEv") == "std::ostream::flush");
  CHECK(demangle("_ZNSsC1ERKSs") == "std::basic_string::basic_string");
  CHECK(demangle("_ZNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEC2Ev") ==
        "std::__cxx11::basic_string::basic_string");
  CHECK(demangle("_ZN3app3BoxIiED0Ev") == "app::Box::~Box");
}

TEST_CASE("operators") {
  CHECK(demangle("_Znwm") == "operator new");
  CHECK(demangle("_ZnamSt11align_val_t") == "operator new[]");
  CHECK(demangle("_ZdlPv") == "operator delete");
  CHECK(demangle("_ZN3BoxIiEltES0_") == "Box::operator<");
  CHECK(demangle("_ZN3BoxIiElsEi") == "Box::operator<<");
  CHECK(demangle("_ZN3BoxIiEptEv") == "Box::operator->");
  CHECK(demangle("_ZN3BoxIiEclEi") == "Box::operator()");
  CHECK(demangle("_ZN3BoxIiEssEi") == "Box::operator<=>");
  CHECK(demangle("_ZN3appli2_sEy") == "app::operator\"\" _s");
  CHECK(demangle("_ZN3BoxcvPKcEv") == "Box::operator char const*");
  CHECK(demangle("_ZNK3BoxIiEcvT_IlEEv") == "Box::operator long");
}

TEST_CASE("what stands inside of functions") {
  CHECK(demangle("_ZZ3usevENKUlRSt3mapIiiEE_clES1_") == "use()::{lambda(std::map&)#1}::operator()");
  CHECK(demangle("_ZZ3usevENKUlT_PFicERA3_iE0_clIiEEDaS_S1_S3_") ==
        "use()::{lambda(auto:1, int (*)(char), int (&) [3])#2}::operator()");
  CHECK(demangle("_ZZN3app3useEvEN5Local2goEv") == "app::use()::Local::go");
  CHECK(demangle("_ZZNK3app1A1fEvE1n_0") == "app::A::f() const::n");
}

TEST_CASE("thunks, clones") {
  CHECK(demangle("_ZThn16_N3app1A3runEi") == "non-virtual thunk to app::A::run(int)");
  CHECK(demangle("_ZTv0_n24_NK3app1A3runEv") == "virtual thunk to app::A::run() const");
  for (const char* const suffix :
       {".cold", ".part.0", ".isra.0", ".constprop.0", ".lto_priv.0", ".isra.0.cold"}) {
    CHECK(demangle(std::string("_ZN3app3runEPKc") + suffix) == "app::run");
  }
}

TEST_CASE("expressions in signatures are read over") {
  CHECK(demangle("_Z4callIRFiiEJiEEDTclfp_spfp0_EEOT_DpOT0_") == "call");
  CHECK(demangle("_ZN1AIXgtLi3ELi2EEE1fEv") == "A::f");
  CHECK(demangle("_Z1fIiENSt9enable_ifIXsrSt7is_sameIT_iE5valueEvE4typeES2_") == "f");
  CHECK(demangle("_ZN1AILb1EL_Z3addiiEE1fEv") == "A::f");
}

TEST_CASE("names longer than the runtime's demangler takes") {
  std::string mangled = "_ZN";
  std::string expected;
  for (int i = 0; i < 500; ++i) {
    mangled += "5scope";
    expected += "scope::";
  }
  CHECK(demangle(mangled + "1fEv") == expected + "f");
}

TEST_CASE("Rust") {
  CHECK(demangle("_ZN4core3ptr13drop_in_place17h0123456789abcdefE") == "core::ptr::drop_in_place");
  CHECK(demangle("_ZN66_$LT$alloc..vec..Vec$LT$T$GT$$u20$as$u20$core..ops..drop..Drop$GT$"
                 "4drop17h0123456789abcdefE.llvm.7") ==
        "<alloc::vec::Vec<T> as core::ops::drop::Drop>::drop");
  CHECK(demangle("_RNvC6_123foo3bar") == "_RNvC6_123foo3bar");
}

TEST_CASE("what is not mangled comes back") {
  for (const std::string name : {"", "main", "_Z", "_ZN", "_ZN3ab", "_Z9999999999999999999f", "_ZNE",
                                 "_Z3foo\xff", "_ZS_", "_ZNS9_1fEv", "_ZN1AC"}) {
    const std::string result = demangle(name);
    CHECK((result == name || result == "foo"));
  }
  CHECK(demangle("_Z" + std::string(5'000, 'P')) == "_Z" + std::string(5'000, 'P'));
  CHECK(demangle("_ZN" + std::string(70'000, '1')) == "_ZN" + std::string(70'000, '1'));
}

TEST_CASE("back references cannot make a name explode") {
  // Every function type has the one before twice.
  std::string bomb = "_Z1fIFvPviEF";
  for (char c = '0'; c < '9'; ++c) bomb += std::string("vS") + c + "_S" + c + "_EF";
  for (char c = 'A'; c <= 'Z'; ++c) bomb += std::string("vS") + c + "_S" + c + "_EF";
  bomb = "_ZZ3usevENKUl" + bomb.substr(5) + "E_clEv";
  CHECK(demangle(bomb).size() < 100'000);
}

TEST_CASE("allocator frames") {
  for (const char* const name :
       {"_Znwm", "_ZnamSt11align_val_tRKSt9nothrow_t", "malloc", "calloc", "realloc", "posix_memalign",
        "__libc_malloc", "_ZN9__gnu_cxx13new_allocatorIiE8allocateEmPKv", "_ZNSaIcE8allocateEm",
        "_ZNSt15__new_allocatorIiE8allocateEmPKv", "_ZNSt16allocator_traitsISaIiEE8allocateERS0_m"}) {
    INFO(name);
    CHECK(is_allocator_frame(demangle(name)));
  }
  for (const char* const name : {"main", "_ZN3app8allocateEm", "free", "_ZdlPv", "my_malloc", "mallocfoo",
                                 "_ZNSt6vectorIiSaIiEE9push_backERKi", ""}) {
    INFO(name);
    CHECK_FALSE(is_allocator_frame(demangle(name)));
  }
}
