// Calls by which a thread, or all threads at once, get other rights (rights.h).
#include <cstddef>

#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <sys/types.h>

#include "hooks/export.h"
#include "hooks/real.h"
#include "hooks/rights.h"

namespace profagent::hooks {

namespace {

// From <linux/prctl.h>: what changes the calling thread alone, where the others must not differ.
bool changes_rights(int prctl_option) {
  constexpr int kKeepCaps = 8;
  constexpr int kDropBoundingCap = 24;
  constexpr int kSetSecureBits = 28;
  constexpr int kSetNoNewPrivs = 38;
  constexpr int kAmbientCaps = 47;
  switch (prctl_option) {
    case kKeepCaps:
    case kDropBoundingCap:
    case kSetSecureBits:
    case kSetNoNewPrivs:
    case kAmbientCaps:
      return true;
    default:
      return false;
  }
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
  const auto call = [=] { return real::prctl(option, a, b, c, d); };
  if (option == PR_SET_SECCOMP)
    return installing_filter(a == SECCOMP_MODE_STRICT ? Filter::kStrict : Filter::kOfThread, call,
                             [](int result) { return result != 0; });
  on_prctl(option, a);
  if (!changes_rights(option)) return call();
  return without_our_thread(call);
}

}  // extern "C"

}  // namespace profagent::hooks
