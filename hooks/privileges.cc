// Calls by which a thread, or all threads at once, get other rights. With a thread of ours about they would
// go wrong: glibc aborts the process when threads disagree about their user, the kernel refuses a new user
// namespace, and ours would stay behind with the old rights. So our thread is ended and
// joined first, and comes back when the program goes on.
#include <cstddef>

#include <sys/types.h>

#include "agent/safe/events.h"
#include "agent/safe/thread_state.h"
#include "hooks/export.h"
#include "hooks/real.h"

namespace profagent::hooks {

namespace {

// From <linux/prctl.h>: what changes the calling thread alone, where the others must not differ.
bool changes_rights(int prctl_option) {
  constexpr int kKeepCaps = 8;
  constexpr int kSetSeccomp = 22;
  constexpr int kDropBoundingCap = 24;
  constexpr int kSetSecureBits = 28;
  constexpr int kSetNoNewPrivs = 38;
  constexpr int kAmbientCaps = 47;
  switch (prctl_option) {
    case kKeepCaps:
    case kSetSeccomp:
    case kDropBoundingCap:
    case kSetSecureBits:
    case kSetNoNewPrivs:
    case kAmbientCaps:
      return true;
    default:
      return false;
  }
}

template <typename Call>
int without_our_thread(Call call) {
  {
    const safe::SafeSection keeps_errno;
    safe::raise(safe::events.rights_will_change);
  }
  const int result = call();
  const safe::SafeSection keeps_errno;
  safe::raise(safe::events.rights_changed);
  return result;
}

}  // namespace

extern "C" {

PROFAGENT_EXPORT(setuid)
int setuid(uid_t user) {
  return without_our_thread([=] { return real::setuid(user); });
}

PROFAGENT_EXPORT(setgid)
int setgid(gid_t group) {
  return without_our_thread([=] { return real::setgid(group); });
}

PROFAGENT_EXPORT(seteuid)
int seteuid(uid_t user) {
  return without_our_thread([=] { return real::seteuid(user); });
}

PROFAGENT_EXPORT(setegid)
int setegid(gid_t group) {
  return without_our_thread([=] { return real::setegid(group); });
}

PROFAGENT_EXPORT(setreuid)
int setreuid(uid_t real_user, uid_t user) {
  return without_our_thread([=] { return real::setreuid(real_user, user); });
}

PROFAGENT_EXPORT(setregid)
int setregid(gid_t real_group, gid_t group) {
  return without_our_thread([=] { return real::setregid(real_group, group); });
}

PROFAGENT_EXPORT(setresuid)
int setresuid(uid_t real_user, uid_t user, uid_t saved_user) {
  return without_our_thread([=] { return real::setresuid(real_user, user, saved_user); });
}

PROFAGENT_EXPORT(setresgid)
int setresgid(gid_t real_group, gid_t group, gid_t saved_group) {
  return without_our_thread([=] { return real::setresgid(real_group, group, saved_group); });
}

PROFAGENT_EXPORT(setgroups)
int setgroups(std::size_t count, const gid_t* groups) {
  return without_our_thread([=] { return real::setgroups(count, groups); });
}

PROFAGENT_EXPORT(initgroups)
int initgroups(const char* user, gid_t group) {
  return without_our_thread([=] { return real::initgroups(user, group); });
}

PROFAGENT_EXPORT(capset)
int capset(void* header, const void* data) {
  return without_our_thread([=] { return real::capset(header, data); });
}

PROFAGENT_EXPORT(unshare)
int unshare(int flags) {
  return without_our_thread([=] { return real::unshare(flags); });
}

PROFAGENT_EXPORT(setns)
int setns(int descriptor, int type) {
  return without_our_thread([=] { return real::setns(descriptor, type); });
}

// Declared variadic, called with up to five words: on this ABI the same thing, and a word that was not passed
// is one that the kernel does not look at.
PROFAGENT_EXPORT(prctl)
int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
  if (!changes_rights(option)) return real::prctl(option, a, b, c, d);
  return without_our_thread([=] { return real::prctl(option, a, b, c, d); });
}

}  // extern "C"

}  // namespace profagent::hooks
