#include "agent/safe/rule_cache.h"

#include <cstring>
#include <type_traits>

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "agent/safe/events.h"
#include "agent/safe/sys.h"

namespace profagent::safe {

namespace {

constinit std::atomic<RuleTable*> the_table = nullptr;
static_assert(std::is_trivially_destructible_v<std::atomic<RuleTable*>>);

struct Module {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  std::uintptr_t eh_frame_header = 0;
  std::uintptr_t bias = 0;
  bool is_program = false;
};

bool find_module(Pc pc, Module& module) noexcept {
  dl_find_object found;
  if (_dl_find_object(reinterpret_cast<void*>(pc), &found) != 0) return false;
  module.begin = reinterpret_cast<std::uintptr_t>(found.dlfo_map_start);
  module.end = reinterpret_cast<std::uintptr_t>(found.dlfo_map_end);
  module.eh_frame_header = reinterpret_cast<std::uintptr_t>(found.dlfo_eh_frame);
  module.bias = found.dlfo_link_map->l_addr;
  module.is_program = *found.dlfo_link_map->l_name == 0;
  return module.eh_frame_header != 0;
}

struct ProgramHeaders {
  const Elf64_Phdr* first = nullptr;
  std::size_t count = 0;
};

ProgramHeaders program_headers(const Module& module) noexcept {
  // When the linker left gaps between the program's segments (lld does), glibc reports the one segment of the
  // pc as its mapping, without the ELF header. The kernel says where the program's headers are.
  if (module.is_program)
    return {reinterpret_cast<const Elf64_Phdr*>(getauxval(AT_PHDR)), getauxval(AT_PHNUM)};
  // The headers must lie in the module's first page, the only one that is surely mapped.
  constexpr std::uintptr_t kFirstPage = 4096;
  if (module.end - module.begin < kFirstPage) return {};
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(module.begin);
  if (std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_phentsize != sizeof(Elf64_Phdr) ||
      header->e_phoff > kFirstPage || header->e_phnum > (kFirstPage - header->e_phoff) / sizeof(Elf64_Phdr)) {
    return {};
  }
  return {reinterpret_cast<const Elf64_Phdr*>(module.begin + header->e_phoff), header->e_phnum};
}

// The loaded segment that holds the module's call-frame information. Between segments there may be holes;
// inside one every byte can be read.
CfiMemory segment_of(const Module& module) noexcept {
  const ProgramHeaders headers = program_headers(module);
  for (std::size_t i = 0; i < headers.count; ++i) {
    const Elf64_Phdr& segment = headers.first[i];
    if (segment.p_type != PT_LOAD || (segment.p_flags & PF_R) == 0) continue;
    const std::uintptr_t begin = module.bias + segment.p_vaddr;
    if (module.eh_frame_header - begin < segment.p_filesz) {
      return {begin, begin + segment.p_filesz, CfiMemory::Trust::kDirect};
    }
  }
  return {0, 0, CfiMemory::Trust::kDirect};
}

// Read by the kernel, so the bounds only keep distances in 32 bits.
CfiMemory surroundings_of(const Module& module) noexcept {
  constexpr std::uintptr_t kReach = std::uintptr_t{1} << 30U;
  const std::uintptr_t header = module.eh_frame_header;
  return {header < kReach ? 0 : header - kReach, header + kReach, CfiMemory::Trust::kProbe};
}

// mov $15, %rax (or %eax); syscall
bool is_sigreturn(Pc pc) noexcept {
  static constexpr unsigned char kLong[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05};
  static constexpr unsigned char kShort[] = {0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05};
  unsigned char code[sizeof kLong];
  // Looked up by the byte before a return address.
  return sys::read_memory(pc + 1, code, sizeof code) == sizeof code &&
         (std::memcmp(code, kLong, sizeof kLong) == 0 || std::memcmp(code, kShort, sizeof kShort) == 0);
}

}  // namespace

constinit std::atomic<std::uint32_t> rule_generation = 0;

PackedRule pack(const CfiRow& row, bool signal_frame) noexcept {
  if (row.rule[kRegisterPc] == CfiRule::kUndefined) return PackedRule(RuleKind::kEnd);
  const PackedRule full(RuleKind::kFull);
  if (signal_frame || row.cfa_computed) return full;
  if (row.cfa_register != kRegisterSp && row.cfa_register != kRegisterBp) return full;
  if (row.rule[kRegisterPc] != CfiRule::kSavedAt || row.value[kRegisterPc] != -8) return full;
  if (row.rule[kRegisterSp] != CfiRule::kUnspecified) return full;
  if (row.cfa_value < 8 || row.cfa_value % 8 != 0) return full;
  const auto cfa_words = static_cast<std::uint32_t>(row.cfa_value) / 8;
  std::uint32_t bp_words = 0;
  switch (row.rule[kRegisterBp]) {
    case CfiRule::kUnspecified:
    case CfiRule::kUnchanged:
    case CfiRule::kUndefined:
      break;
    case CfiRule::kSavedAt:
      if (row.value[kRegisterBp] > -8 || row.value[kRegisterBp] % 8 != 0) return full;
      bp_words = static_cast<std::uint32_t>(-row.value[kRegisterBp]) / 8;
      break;
    default:
      return full;
  }
  // A slot beyond the CFA offset would lie below sp (or bp): never packed, so never read without a check.
  if (cfa_words > PackedRule::kMaxWords || bp_words > cfa_words) return full;
  return {row.cfa_register == kRegisterSp ? RuleKind::kFromSp : RuleKind::kFromBp, cfa_words, bp_words};
}

void RuleTable::clear() noexcept {
  // Gives whole pages back at once. Refused when the program locks its memory.
  if (may_ask_kernel() &&
      sys::call(SYS_madvise, reinterpret_cast<long>(this), sizeof *this, MADV_DONTNEED) == 0)
    return;
  for (auto& entry : entries_) {
    if (entry.load(std::memory_order_relaxed) != 0) entry.store(0, std::memory_order_relaxed);
  }
}

RuleTable* rule_table() noexcept {
  // Relaxed: fresh pages are zero for everybody, there is nothing else to publish.
  RuleTable* table = the_table.load(std::memory_order_relaxed);
  if (table != nullptr) return table;
  void* pages = sys::map_pages(sizeof(RuleTable));
  if (pages == nullptr) return nullptr;
  if (the_table.compare_exchange_strong(table, static_cast<RuleTable*>(pages), std::memory_order_relaxed)) {
    return static_cast<RuleTable*>(pages);
  }
  sys::unmap_pages(pages, sizeof(RuleTable));
  return table;
}

CfiLookup::CfiLookup(Pc pc, CfiMemory::Trust trust) noexcept : memory_(0, 0, trust) {
  Module module;
  if (!find_module(pc, module)) return;
  if (trust == CfiMemory::Trust::kDirect) memory_ = segment_of(module);
  if (trust == CfiMemory::Trust::kProbe || memory_.begin() == memory_.end())
    memory_ = surroundings_of(module);
  CfiFunction function;
  found_ =
      find_function(memory_, module.eh_frame_header, pc, function) && find_row(memory_, function, pc, row_);
  signal_frame_ = function.signal_frame;
}

[[gnu::noinline]] PackedRule look_up_rule(Pc pc, CfiMemory::Trust trust) noexcept {
  // Pairs with the release in forget_unwind_rules(): what was computed from a module that is gone by now is
  // not put. Between this check and put() a module may still be unloaded and another one mapped there; then a
  // stale rule stays until its entry is replaced. It can make a stack wrong, never a read unsafe.
  const std::uint32_t generation = rule_generation.load(std::memory_order_acquire);
  CfiLookup lookup(pc, trust);
  PackedRule rule;
  if (lookup.found()) {
    rule = pack(lookup.row(), lookup.signal_frame());
  } else {
    rule = PackedRule(is_sigreturn(pc) ? RuleKind::kSigreturn : RuleKind::kNoCfi);
  }
  RuleTable* table = rule_table();
  if (table != nullptr && rule_generation.load(std::memory_order_acquire) == generation) table->put(pc, rule);
  return rule;
}

}  // namespace profagent::safe
