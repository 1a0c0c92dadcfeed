#include "agent/safe/elf_lookup.h"

#include <cstdint>
#include <cstring>

#include <dlfcn.h>

namespace profagent::safe {

namespace {

struct Tables {
  const ElfW(Sym) * symbols = nullptr;
  const char* strings = nullptr;
  const std::uint32_t* gnu_hash = nullptr;
  const std::uint32_t* hash = nullptr;
  const std::uint16_t* versions = nullptr;
};

// Where addresses of the object's dynamic section point. The loader has relocated them in place, but not in a
// read-only section (the vDSO's, or one made by lld -z rodynamic), where they are still relative to the load
// bias.
class DynamicAddresses {
 public:
  explicit DynamicAddresses(const link_map& object) : bias_(object.l_addr) {
    dl_find_object found{};
    if (_dl_find_object(object.l_ld, &found) != 0) return;
    start_ = reinterpret_cast<std::uintptr_t>(found.dlfo_map_start);
    end_ = reinterpret_cast<std::uintptr_t>(found.dlfo_map_end);
  }

  // nullptr when it would lie outside of the object.
  template <typename Entry>
  [[nodiscard]] const Entry* at(std::uintptr_t value) const {
    if (is_inside(value)) return reinterpret_cast<const Entry*>(value);
    return is_inside(value + bias_) ? reinterpret_cast<const Entry*>(value + bias_) : nullptr;
  }

 private:
  [[nodiscard]] bool is_inside(std::uintptr_t address) const { return address >= start_ && address < end_; }

  std::uintptr_t bias_;
  std::uintptr_t start_ = 0;
  std::uintptr_t end_ = 0;
};

Tables tables_of(const link_map& object) {
  Tables tables;
  if (object.l_ld == nullptr) return tables;
  const DynamicAddresses addresses(object);
  for (const ElfW(Dyn)* entry = object.l_ld; entry->d_tag != DT_NULL; ++entry) {
    const std::uintptr_t value = entry->d_un.d_ptr;
    switch (entry->d_tag) {
      case DT_SYMTAB:
        tables.symbols = addresses.at<ElfW(Sym)>(value);
        break;
      case DT_STRTAB:
        tables.strings = addresses.at<char>(value);
        break;
      case DT_GNU_HASH:
        tables.gnu_hash = addresses.at<std::uint32_t>(value);
        break;
      case DT_HASH:
        tables.hash = addresses.at<std::uint32_t>(value);
        break;
      case DT_VERSYM:
        tables.versions = addresses.at<std::uint16_t>(value);
        break;
      default:
        break;
    }
  }
  return tables;
}

// Collects the symbols that match a name, in the order in which a hash table offers them.
class Search {
 public:
  Search(const Tables& tables, const char* name) : tables_(tables), name_(name) {}

  // True when it is the one: defined under its default version, or without any.
  bool offer(std::uint32_t index) {
    const ElfW(Sym)& symbol = tables_.symbols[index];
    const auto type = ELF64_ST_TYPE(symbol.st_info);
    if (symbol.st_shndx == SHN_UNDEF || ELF64_ST_BIND(symbol.st_info) == STB_LOCAL) return false;
    if (type != STT_FUNC && type != STT_GNU_IFUNC) return false;
    if (std::strcmp(tables_.strings + symbol.st_name, name_) != 0) return false;
    best_ = &symbol;
    constexpr std::uint16_t kHiddenVersion = 0x8000;
    return tables_.versions == nullptr || (tables_.versions[index] & kHiddenVersion) == 0;
  }

  [[nodiscard]] const ElfW(Sym) * best() const { return best_; }

 private:
  const Tables& tables_;
  const char* name_;
  const ElfW(Sym) * best_ = nullptr;
};

void search_gnu_hash(const std::uint32_t* table, const char* name, Search& search) {
  const std::uint32_t bucket_count = table[0];
  const std::uint32_t first_hashed = table[1];
  const std::uint32_t bloom_words = table[2];
  const std::uint32_t* buckets = table + 4 + std::size_t{2} * bloom_words;
  const std::uint32_t* chains = buckets + bucket_count;
  if (bucket_count == 0) return;

  std::uint32_t hash = 5381;
  for (; *name != '\0'; ++name) hash = hash * 33 + static_cast<unsigned char>(*name);
  std::uint32_t index = buckets[hash % bucket_count];
  if (index < first_hashed) return;
  for (;; ++index) {
    const std::uint32_t entry = chains[index - first_hashed];
    if ((entry | 1) == (hash | 1) && search.offer(index)) return;
    if ((entry & 1) != 0) return;  // the chain's last
  }
}

// The gABI's table, which -Wl,--hash-style=sysv makes instead of the GNU one.
void search_hash(const std::uint32_t* table, const char* name, Search& search) {
  const std::uint32_t bucket_count = table[0];
  const std::uint32_t chain_count = table[1];
  const std::uint32_t* buckets = table + 2;
  const std::uint32_t* chains = buckets + bucket_count;
  if (bucket_count == 0) return;

  std::uint32_t hash = 0;
  for (; *name != '\0'; ++name) {
    hash = (hash << 4) + static_cast<unsigned char>(*name);
    const std::uint32_t high = hash & 0xf0000000;
    hash = (hash ^ high >> 24) & ~high;
  }
  std::uint32_t index = buckets[hash % bucket_count];
  for (std::uint32_t steps = 0; index != STN_UNDEF && index < chain_count && steps < chain_count; ++steps) {
    if (search.offer(index)) return;
    index = chains[index];
  }
}

void* address_of(const link_map& object, const ElfW(Sym) & symbol) {
  void* address = reinterpret_cast<void*>(object.l_addr + symbol.st_value);
  if (ELF64_ST_TYPE(symbol.st_info) != STT_GNU_IFUNC) return address;
  return reinterpret_cast<void* (*)()>(address)();
}

// Behind the last slash.
const char* base_name(const char* path) {
  const char* base = path;
  for (; *path != '\0'; ++path) {
    if (*path == '/') base = path + 1;
  }
  return base;
}

}  // namespace

const link_map* first_object() noexcept {
  return _r_debug.r_map;
}

const link_map* own_object() noexcept {
  for (const link_map* object = first_object(); object != nullptr; object = object->l_next) {
    if (object->l_ld == _DYNAMIC) return object;  // the linker's name for our own dynamic section
  }
  return nullptr;
}

void* find_function(const link_map& object, const char* name) noexcept {
  const Tables tables = tables_of(object);
  if (tables.symbols == nullptr || tables.strings == nullptr) return nullptr;
  Search search(tables, name);
  if (tables.gnu_hash != nullptr) {
    search_gnu_hash(tables.gnu_hash, name, search);
  } else if (tables.hash != nullptr) {
    search_hash(tables.hash, name, search);
  }
  return search.best() == nullptr ? nullptr : address_of(object, *search.best());
}

const link_map* find_definer(const link_map* from, const char* name) noexcept {
  for (const link_map* object = from; object != nullptr; object = object->l_next) {
    if (find_function(*object, name) != nullptr) return object;
  }
  return nullptr;
}

bool is_needed(const link_map& object) noexcept {
  const char* name = base_name(object.l_name);
  const char* strings = tables_of(object).strings;
  for (const ElfW(Dyn)* entry = object.l_ld; strings != nullptr && entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_SONAME) name = base_name(strings + entry->d_un.d_val);
  }
  for (const link_map* user = first_object(); user != nullptr; user = user->l_next) {
    strings = tables_of(*user).strings;
    if (strings == nullptr) continue;
    for (const ElfW(Dyn)* entry = user->l_ld; entry->d_tag != DT_NULL; ++entry) {
      if (entry->d_tag == DT_NEEDED && std::strcmp(base_name(strings + entry->d_un.d_val), name) == 0)
        return true;
    }
  }
  return false;
}

}  // namespace profagent::safe
