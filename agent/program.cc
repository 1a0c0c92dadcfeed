#include "agent/program.h"

#include <cstring>

#include <link.h>
#include <sys/auxv.h>

#include "agent/safe/elf_lookup.h"
#include "agent/safe/settings.h"
#include "agent/safe/sys.h"

namespace profagent {

namespace {

// Programs that only start others: dormant, so that the service they start gets port 6060.
constexpr std::string_view kWrappers[] = {
    "sh",          "bash",     "dash",     "zsh",
    "ksh",         "busybox",  "env",      "sudo",
    "su",          "runuser",  "setpriv",  "gosu",
    "su-exec",     "chpst",    "tini",     "dumb-init",
    "catatonit",   "timeout",  "nohup",    "nice",
    "ionice",      "chrt",     "taskset",  "numactl",
    "setsid",      "stdbuf",   "unshare",  "nsenter",
    "chroot",      "flock",    "time",     "strace",
    "ltrace",      "gdb",      "perf",     "xargs",
    "find",        "make",     "gmake",    "ninja",
    "cmake",       "meson",    "git",      "cc",
    "c++",         "gcc",      "g++",      "cpp",
    "clang",       "clang++",  "cc1",      "cc1plus",
    "collect2",    "as",       "ld",       "ld.bfd",
    "ld.gold",     "ld.lld",   "ar",       "ranlib",
    "pkg-config",  "ldd",      "ldconfig", "start-stop-daemon",
    "systemd-run", "script",   "screen",   "tmux",
    "sshd",        "cat",      "ls",       "cp",
    "mv",          "rm",       "mkdir",    "ln",
    "chmod",       "chown",    "grep",     "sed",
    "awk",         "mawk",     "gawk",     "head",
    "tail",        "tr",       "cut",      "sort",
    "uname",       "basename", "dirname",  "readlink",
    "id",          "date",     "expr",     "test",
    "true",        "false",    "tee",
};

bool matches(std::string_view pattern, std::string_view name) {
  // Greedy with one point to come back to: the last star.
  std::size_t p = 0;
  std::size_t n = 0;
  std::size_t star = std::string_view::npos;
  std::size_t after_star = 0;
  while (n < name.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n]) && pattern[p] != '*') {
      ++p;
      ++n;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      after_star = n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++after_star;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

// gcc's driver and Debian's versioned names: gcc-12, x86_64-linux-gnu-gcc-12, ...
bool is_wrapper(std::string_view name) {
  if (name.starts_with("x86_64-linux-gnu-")) name.remove_prefix(std::strlen("x86_64-linux-gnu-"));
  if (const std::size_t dash = name.rfind('-');
      dash != std::string_view::npos && dash + 1 < name.size() &&
      name.find_first_not_of("0123456789.", dash + 1) == name.npos) {
    name = name.substr(0, dash);
  }
  for (const std::string_view wrapper : kWrappers) {
    if (name == wrapper) return true;
  }
  return false;
}

void copy_base_name(std::string_view path, char (&name)[256]) {
  path.remove_prefix(path.rfind('/') + 1);  // npos + 1 is 0
  path = path.substr(0, sizeof(name) - 1);
  std::memcpy(name, path.data(), path.size());
  name[path.size()] = '\0';
}

void read_names(Program& program) {
  if (const auto* path = reinterpret_cast<const char*>(getauxval(AT_EXECFN)); path != nullptr) {
    copy_base_name(path, program.started_as);
  }
  char target[4096];
  const long length = safe::sys::call(SYS_readlink, reinterpret_cast<long>("/proc/self/exe"),
                                      reinterpret_cast<long>(target), sizeof(target));
  std::string_view executable =
      length > 0 ? std::string_view(target, static_cast<std::size_t>(length)) : program.started_as;
  // The kernel's word for an executable that was replaced meanwhile, or runs from a memfd.
  constexpr std::string_view kDeleted = " (deleted)";
  if (executable.ends_with(kDeleted)) executable.remove_suffix(kDeleted.size());
  copy_base_name(executable, program.name);
}

const char* soname_of(const link_map& object) {
  std::uintptr_t strings = 0;
  std::uintptr_t offset = 0;
  for (const ElfW(Dyn)* entry = object.l_ld; entry != nullptr && entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_STRTAB) strings = entry->d_un.d_ptr;
    if (entry->d_tag == DT_SONAME) offset = entry->d_un.d_val;
  }
  if (offset == 0 || strings < object.l_addr) return nullptr;
  return reinterpret_cast<const char*>(strings + offset);
}

// The same library under another path, or both linked and preloaded: the first one works.
bool is_second_copy() {
  const link_map* own = safe::own_object();
  if (own == nullptr) return true;  // another namespace: the first one is not visible from here
  const char* name = soname_of(*own);
  for (const link_map* object = safe::first_object(); object != own && name != nullptr;
       object = object->l_next) {
    const char* other = soname_of(*object);
    if (other != nullptr && std::strcmp(other, name) == 0) return true;
  }
  return false;
}

}  // namespace

bool matches_any(std::string_view patterns, std::string_view name) noexcept {
  while (!patterns.empty()) {
    const std::size_t comma = patterns.find(',');
    std::string_view pattern = patterns.substr(0, comma);
    patterns.remove_prefix(comma == std::string_view::npos ? patterns.size() : comma + 1);
    while (pattern.starts_with(' ')) pattern.remove_prefix(1);
    while (pattern.ends_with(' ')) pattern.remove_suffix(1);
    if (!pattern.empty() && matches(pattern, name)) return true;
  }
  return false;
}

Program identify_program() noexcept {
  Program program;
  read_names(program);
  if (getauxval(AT_SECURE) != 0) {
    program.reason = "the program runs with more privileges than its caller (AT_SECURE)";
  } else if (is_second_copy()) {
    program.reason = "another copy of the agent is loaded";
  } else if (const char* globs = safe::settings.programs.load(std::memory_order_relaxed); *globs != '\0') {
    program.role = matches_any(globs, program.name) || matches_any(globs, program.started_as)
                       ? Role::kProfiled
                       : Role::kDormant;
    program.reason = "not named in PROFAGENT_PROGRAMS";
  } else {
    program.role = is_wrapper(program.name) ? Role::kDormant : Role::kProfiled;
    program.reason = "a program that only starts others; PROFAGENT_PROGRAMS overrides";
  }
  return program;
}

}  // namespace profagent
