#include "agent/safe/rule_cache.h"

#include <cstring>
#include <type_traits>

#include <dlfcn.h>
#include <elf.h>
#include <sys/mman.h>

#include "agent/safe/sys.h"

namespace profagent::safe {

namespace {

constinit std::atomic<RuleTable*> the_table = nullptr;
static_assert(std::is_trivially_destructible_v<std::atomic<RuleTable*>>);

// The program headers must lie in the module's first page, the only one that is surely mapped.
constexpr std::uintptr_t kFirstPage = 4096;

// The loaded segment of the module at `base` that holds `address`. A module's range may have holes between its
// segments; inside one segment every byte can be read.
bool find_segment(CfiMemory& module, std::uintptr_t base, std::uintptr_t address, std::uintptr_t& begin,
                  std::uintptr_t& end) noexcept {
  Elf64_Ehdr header;
  if (!module.load(base, header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
      header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phoff > kFirstPage ||
      header.e_phnum > (kFirstPage - header.e_phoff) / sizeof(Elf64_Phdr)) {
    return false;
  }
  std::uintptr_t bias = 0;
  bool first = true;
  for (std::size_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    if (!module.load(base + header.e_phoff + i * sizeof segment, segment)) return false;
    if (segment.p_type != PT_LOAD) continue;
    // The header is where the first segment starts, else these are not the headers of what is mapped here.
    if (first && segment.p_offset != 0) return false;
    if (first) bias = base - (segment.p_vaddr & ~std::uintptr_t{4095});
    first = false;
    begin = bias + segment.p_vaddr;
    end = begin + segment.p_filesz;
    if (address >= begin && address < end) return (segment.p_flags & PF_R) != 0;
  }
  return false;
}

struct Module {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  std::uintptr_t eh_frame_header = 0;
};

bool find_module(Pc pc, Module& module) noexcept {
  dl_find_object found;
  if (_dl_find_object(reinterpret_cast<void*>(pc), &found) != 0) return false;
  module.begin = reinterpret_cast<std::uintptr_t>(found.dlfo_map_start);
  module.end = reinterpret_cast<std::uintptr_t>(found.dlfo_map_end);
  module.eh_frame_header = reinterpret_cast<std::uintptr_t>(found.dlfo_eh_frame);
  return module.eh_frame_header != 0;
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
  if (sys::call(SYS_madvise, reinterpret_cast<long>(this), sizeof *this, MADV_DONTNEED) == 0) return;
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
  std::uintptr_t begin = module.begin;
  std::uintptr_t end = module.end;
  memory_ = CfiMemory(begin, end, trust);
  if (trust == CfiMemory::Trust::kDirect) {
    memory_ = find_segment(memory_, module.begin, module.eh_frame_header, begin, end)
                  ? CfiMemory(begin, end, trust)
                  : CfiMemory(module.begin, module.end, CfiMemory::Trust::kProbe);
  }
  CfiFunction function;
  found_ = find_function(memory_, module.eh_frame_header, pc, function) &&
           find_row(memory_, function, pc, row_);
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
