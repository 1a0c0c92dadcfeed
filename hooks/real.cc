#include "hooks/real.h"

#include <dlfcn.h>

#include "agent/safe/elf_lookup.h"
#include "hooks/entries.h"
#include "hooks/fallbacks.h"

namespace profagent::hooks {

namespace {

#define PROFAGENT_HOOK(name, result, parameters, arguments, fallback) \
  result resolve_then_##name parameters {                             \
    real::resolve();                                                  \
    return real::name arguments;                                      \
  }
#include "hooks/table.def"
#undef PROFAGENT_HOOK

struct Definition {
  const link_map* object = nullptr;  // null: not known, or there is none
  void* function = nullptr;
};

Definition next_definition(const char* name, bool optional) {
  const link_map* own = safe::own_object();
  // Loaded into another namespace (dlmopen). What may be missing is not asked for: a miss allocates, and
  // malloc is what is being resolved.
  if (own == nullptr) return {nullptr, optional ? nullptr : dlsym(RTLD_NEXT, name)};
  // After us; or, when the program was linked with the agent behind libc, before us.
  const link_map* definer = safe::find_definer(own->l_next, name);
  if (definer == nullptr) definer = safe::find_definer(safe::first_object(), name);
  if (definer == nullptr || definer == own) return {};
  return {definer, safe::find_function(*definer, name)};
}

// Whether it does what libc's function of that name does: it is libc's, or stands in for it. That is what
// libraries are preloaded for which no other names as needed, and sanitizers' libraries. All others have
// their names for their own use.
bool acts_for_libc(const Definition& definition, const link_map* libc) {
  if (definition.object == nullptr || definition.object == libc) return true;
  return !safe::is_needed(*definition.object) ||
         safe::find_function(*definition.object, "__sanitizer_print_stack_trace") != nullptr;
}

bool come_together(const char* lock, const char* its_try) {
  return next_definition(lock, false).object == next_definition(its_try, false).object;
}

// A store that another thread's call may overlap: it sees the stub or the function, and both are right.
template <typename Function>
void set(Function& pointer, void* found, Function fallback) {
  Function function = found == nullptr ? fallback : reinterpret_cast<Function>(found);
  if (function != nullptr) __atomic_store_n(&pointer, function, __ATOMIC_RELEASE);
}

}  // namespace

namespace real {

int have_no_unit(sem_t* /*semaphore*/) noexcept {
  return -1;
}

#define PROFAGENT_HOOK(name, result, parameters, arguments, fallback) \
  constinit std::add_pointer_t<result parameters> name = resolve_then_##name;
#include "hooks/table.def"
#undef PROFAGENT_HOOK

namespace {

int attempt_after_resolving(pthread_mutex_t* mutex) {
  resolve();
  return attempt_mutex(mutex);
}

}  // namespace

constinit std::add_pointer_t<int(pthread_mutex_t*)> attempt_mutex = attempt_after_resolving;
constinit std::atomic<bool> may_try_rdlock{false};
constinit std::atomic<bool> may_try_wrlock{false};
constinit std::atomic<bool> may_try_mtx{false};
constinit std::add_pointer_t<int(sem_t*)> attempt_unit = have_no_unit;

void resolve() noexcept {
  const link_map* libc = safe::find_definer(safe::first_object(), "gnu_get_libc_version");
#define PROFAGENT_OLD_HOOK(function, name, version, result, parameters, arguments) \
  set<std::add_pointer_t<result parameters>>(function, dlvsym(RTLD_NEXT, #name, version), nullptr);
#define PROFAGENT_HOOK(name, result, parameters, arguments, fallback)                                    \
  set<std::add_pointer_t<result parameters>>(name, next_definition(#name, fallback != nullptr).function, \
                                             fallback);
#define PROFAGENT_WAIT_HOOK(name, result, parameters, arguments)                 \
  {                                                                              \
    const Definition next = next_definition(#name, false);                       \
    set<std::add_pointer_t<result parameters>>(name, next.function, nullptr);    \
    set(entry::name, nullptr, acts_for_libc(next, libc) ? watched::name : name); \
  }
#include "hooks/table.def"
#undef PROFAGENT_HOOK
  set(attempt_mutex, nullptr,
      come_together("pthread_mutex_lock", "pthread_mutex_trylock") ? pthread_mutex_trylock
                                                                   : pthread_mutex_lock);
  may_try_rdlock = come_together("pthread_rwlock_rdlock", "pthread_rwlock_tryrdlock");
  may_try_wrlock = come_together("pthread_rwlock_wrlock", "pthread_rwlock_trywrlock");
  may_try_mtx = come_together("mtx_lock", "mtx_trylock");
  set(attempt_unit, nullptr, come_together("sem_wait", "sem_trywait") ? sem_trywait : have_no_unit);
}

}  // namespace real

}  // namespace profagent::hooks
