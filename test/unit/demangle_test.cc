#include "agent/service/demangle.h"

#include <catch2/catch.hpp>

#include <cstring>

#include <pthread.h>

#include "agent/service/allocator_frames.h"

using namespace profagent::service;

namespace {

// The compiler's S_, S0_, S1_, ...
std::string substitution(int number) {
  static constexpr char kDigits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  if (number == 0) return "S_";
  std::string digits;
  for (int rest = number - 1; rest > 0 || digits.empty(); rest /= 36) digits.insert(0, 1, kDigits[rest % 36]);
  return "S" + digits + "_";
}

// Parameters of which every one is a function that takes the one before twice; `known` substitutions come
// before.
std::string doubling_types(int known) {
  std::string types = "i";
  std::string before = "i";
  for (int i = 0; i < 60; ++i) {
    types += "PFv" + before + before + "E";
    before = substitution(known + 2 * i + 1);
  }
  return types;
}

std::string repeated(int count, std::string_view text) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

// A tuple of two tuples, of which the second is the first again, and so on inside.
std::string doubling_rust_type() {
  static constexpr char kDigits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  static constexpr int kLevels = 40;
  static constexpr int kFirst = 8;  // characters between _R and the outermost tuple
  std::string name = "_RINvC1a1b" + std::string(kLevels + 1, 'T') + "jjE";
  for (int level = kLevels; level > 0; --level) name += std::string("B") + kDigits[kFirst + level - 1] + "_E";
  return name + "E";
}

// Ends the process when the stack is too small.
bool demangled_on_small_stack(const std::string& name) {
  const auto body = [](void* argument) -> void* {
    for (const DemangleStyle style :
         {DemangleStyle::kDefault, DemangleStyle::kTemplates, DemangleStyle::kFull}) {
      static_cast<void>(demangle(*static_cast<const std::string*>(argument), style));
    }
    return argument;
  };
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kDemangleStack);
  pthread_t thread = {};
  void* result = nullptr;
  const bool is_done = pthread_create(&thread, &attributes, body, const_cast<std::string*>(&name)) == 0 &&
                       pthread_join(thread, &result) == 0;
  pthread_attr_destroy(&attributes);
  return is_done && result != nullptr;
}

}  // namespace

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
  CHECK(demangle("_RNvC6_123foo3bar") == "123foo::bar");
  CHECK(demangle("_RNCINvC1r3genNCNvB4_4mains1_0Es_0B4_") == "r::gen::<>::{closure#1}");
}

TEST_CASE("styles") {
  struct Row {
    std::string name, by_default, templates, full;
  };
  for (const Row& row : {
           Row{"_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector::push_back",
               "std::vector<int, std::allocator<int> >::push_back",
               "std::vector<int, std::allocator<int> >::push_back(int const&)"},
           Row{"_Z3addIiET_S0_S0_", "add", "add<int>", "int add<int>(int, int)"},
           Row{"_ZNK3BoxIiEcvT_IlEEv", "Box::operator long", "Box<int>::operator long<long>",
               "Box<int>::operator long<long>() const"},
           Row{"_ZN3appltIiEEbT_S1_", "app::operator<", "app::operator< <int>",
               "bool app::operator< <int>(int, int)"},
           Row{"_ZNSsC1ERKSs", "std::basic_string::basic_string",
               "std::basic_string<char, std::char_traits<char>, std::allocator<char> >::basic_string",
               "std::basic_string<char, std::char_traits<char>, std::allocator<char> >"
               "::basic_string(std::string const&)"},
           Row{"_ZN1A1BIJEE1fEv", "A::B::f", "A::B<>::f", "A::B<>::f()"},
           Row{"_ZN3FooIXadL_Z1gIiEvT_EEE1fEv", "Foo::f", "Foo<&(void g<int>(int))>::f",
               "Foo<&(void g<int>(int))>::f()"},
           Row{"_ZZN3app3useIiEEvT_EN5Local2goEv", "app::use()::Local::go", "app::use<int>()::Local::go",
               "app::use<int>(int)::Local::go()"},
           Row{"_ZN3app3runEPKc.isra.0.cold", "app::run", "app::run",
               "app::run(char const*) [clone .isra.0] [clone .cold]"},
           Row{"_RNvXC1aINtB2_1WjKj2_Kc3c_ENtB2_2Tr2go", "<a::W<> as a::Tr>::go",
               "<a::W<usize, 2, '<'> as a::Tr>::go", "<a::W<usize, 2, '<'> as a::Tr>::go"},
           Row{"_RINvC1a1bFFhEjEuEB2_", "a::b::<>", "a::b::<fn(fn(u8) -> usize)>",
               "a::b::<fn(fn(u8) -> usize)>"},
           Row{"_RINvC1a1bEB2_", "a::b::<>", "a::b::<>", "a::b::<>"},
           Row{"_RYFG_RL0_jERL0_hNtC1a1b", "<for<'a> fn(&'a usize) -> &'a u8 as a::b>",
               "<for<'a> fn(&'a usize) -> &'a u8 as a::b>", "<for<'a> fn(&'a usize) -> &'a u8 as a::b>"},
           Row{"$s4main3fooyyF", "$s4main3fooyyF", "$s4main3fooyyF", "$s4main3fooyyF"},
           Row{"_GLOBAL__sub_I_main", "_GLOBAL__sub_I_main", "_GLOBAL__sub_I_main", "_GLOBAL__sub_I_main"},
       }) {
    CHECK(demangle(row.name, DemangleStyle::kDefault) == row.by_default);
    CHECK(demangle(row.name, DemangleStyle::kTemplates) == row.templates);
    CHECK(demangle(row.name, DemangleStyle::kFull) == row.full);
    CHECK(demangle(row.name, DemangleStyle::kNone) == row.name);
  }
}

TEST_CASE("names after sr, in today's grammar and in the old one") {
  CHECK(demangle("_Z1fIiEvP3FooIXsr3std9is_signedIT_EE5valueEE", DemangleStyle::kFull) ==
        "void f<int>(Foo<std::is_signed<int>::value>*)");
  CHECK(demangle("_Z1fI3BarEvP3FooIXsr3Bar1xEE", DemangleStyle::kFull) == "void f<Bar>(Foo<Bar::x>*)");
}

TEST_CASE("names that would need much memory come back") {
  // libiberty's printer has room on the stack for every template at every reference to a parameter.
  const std::string many = "_Z1fI" + repeated(400, "1aIiE") + "Ev" + repeated(500, "RT_");
  CHECK(demangled_on_small_stack(many));
  CHECK(demangle(many, DemangleStyle::kFull) == many);

  const std::string fits = "_Z1fIiEv" + repeated(kMaxMangled - 8, "i");
  CHECK(demangle(fits) == "f");
  CHECK(demangle(fits + "i") == fits + "i");
  const std::string long_class = "2000" + repeated(200, "abcdefghij");
  const std::string short_enough = "_Z1fI" + long_class + repeated(30, "S0_") + "Evv";
  CHECK(demangle(short_enough, DemangleStyle::kTemplates).size() == 31 * 2002 + 1);
  const std::string too_long = "_Z1fI" + long_class + repeated(32, "S0_") + "Evv";
  CHECK(demangle(too_long, DemangleStyle::kTemplates) == too_long);
  CHECK(demangle(too_long) == "f");

  CHECK(demangle(std::string("_Z1a\0b", 6)) == std::string("_Z1a\0b", 6));
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
  for (const std::string& bomb :
       {"_ZZ3usevENKUl" + doubling_types(0) + "E_clEv", "_Z3useI" + doubling_types(1) + "Evv",
        "_Z3use" + doubling_types(0), "_Z3useIiEvDpFv" + doubling_types(1) + "E", doubling_rust_type()}) {
    const std::string by_default = demangle(bomb);
    CHECK((by_default == bomb || by_default == "use"));
    CHECK(demangle(bomb, DemangleStyle::kFull) == bomb);
  }
}

TEST_CASE("hostile names fit the stack that is promised") {
  for (const char* const unit :
       {"Dw", "P", "GR", "Z", "FPFv", "A2_P", "RA3_", "RAL_Z1bE_", "1a", "i", "N1aI"}) {
    for (const char* const prefix : {"_ZTI", "_ZNK", "_Z1fI", "_Z1f", "_RINvC1a1b"}) {
      for (const std::size_t length : {kMaxMangled / 4, kMaxMangled}) {
        const auto count = static_cast<int>((length - std::strlen(prefix)) / std::strlen(unit));
        INFO(prefix << unit << unit << ' ' << length);
        CHECK(demangled_on_small_stack(prefix + repeated(count, unit)));
      }
    }
  }
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
