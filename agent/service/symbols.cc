#include "agent/service/symbols.h"

#include <algorithm>
#include <utility>

#include <elf.h>

#include "agent/service/demangle.h"
#include "agent/service/hex.h"

namespace profagent::service {

namespace {

// Addresses of one pass over a table: bounds the memory of a pass to about 1 MiB.
constexpr std::size_t kMaxAddresses = 8192;

// What an image is cached under. A file without a build id is known by what stat says of it.
std::string identity_of(const Image& image) {
  if (!image.build_id.empty()) return image.build_id;
  std::string identity =
      image.path + '\n' + std::to_string(image.device) + '\n' + std::to_string(image.inode);
  if (const auto file = FileBytes::identify(image.path.c_str())) {
    identity += '\n' + std::to_string(file->modified_nanos) + '\n' + std::to_string(file->size);
  }
  return identity;
}

}  // namespace

std::vector<ResolvedPc> Symbolizer::resolve(const ModuleSet& modules, std::span<const std::uintptr_t> pcs) {
  if (cached_ > kMaxCached) clear();

  std::vector<ResolvedPc> results(pcs.size());
  std::map<const Image*, std::vector<Wanted>> by_image;
  for (std::size_t i = 0; i < pcs.size(); ++i) {
    const Module* const module = modules.find(pcs[i]);
    results[i].module = module;
    const auto address = module == nullptr ? std::nullopt : modules.address_in_image(*module, pcs[i]);
    if (address) {
      by_image[modules.image_of(*module)].push_back({i, *address});
    } else {
      results[i].symbol = placeholder(module);
    }
  }

  for (const auto& [image, wanted] : by_image) {
    const ImageCache& cache = name_wanted(*image, wanted, SymbolUse::kFunction);
    for (const Wanted& each : wanted) {
      ResolvedPc& result = results[each.index];
      const auto entry = cache.by_address.find(each.address);
      result.found = entry != cache.by_address.end() && entry->second.symbol != nullptr;
      result.symbol = result.found ? entry->second.symbol : placeholder(result.module);
      if (result.found) result.start = pcs[each.index] - (each.address - entry->second.start);
    }
  }
  return results;
}

std::vector<std::string> Symbolizer::name_variables(const ModuleSet& modules,
                                                    std::span<const std::uintptr_t> addresses) {
  if (cached_ > kMaxCached) clear();

  std::map<const Image*, std::vector<Wanted>> by_image;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    for (const Image& image : modules.images()) {
      if (!image.live || image.header == 0 || !image.holds(addresses[i])) continue;
      by_image[&image].push_back({i, addresses[i] - image.bias});
      break;
    }
  }
  std::vector<std::string> names(addresses.size());
  for (const auto& [image, wanted] : by_image) {
    const ImageCache& cache = name_wanted(*image, wanted, SymbolUse::kVariable);
    for (const Wanted& each : wanted) {
      const auto entry = cache.by_address.find(each.address);
      if (entry == cache.by_address.end() || entry->second.symbol == nullptr) continue;
      names[each.index] = entry->second.symbol->name;
      if (const std::uint64_t distance = each.address - entry->second.start; distance != 0)
        names[each.index] += "+" + hex(distance);
    }
  }
  return names;
}

Symbolizer::ImageCache& Symbolizer::name_wanted(const Image& image, std::span<const Wanted> wanted,
                                                SymbolUse use) {
  ImageCache& cache = images_[identity_of(image)];
  std::vector<std::uint64_t> unknown;
  for (const Wanted& each : wanted) {
    if (!cache.by_address.contains(each.address)) unknown.push_back(each.address);
  }
  if (unknown.empty()) return cache;
  std::sort(unknown.begin(), unknown.end());
  unknown.erase(std::unique(unknown.begin(), unknown.end()), unknown.end());
  const std::size_t before = cache.by_address.size();
  name_addresses(image, {.addresses = std::move(unknown), .cache = cache, .use = use});
  cached_ += cache.by_address.size() - before;
  return cache;
}

void Symbolizer::clear() noexcept {
  images_.clear();
  placeholders_.clear();
  cached_ = 0;
}

void Symbolizer::name_addresses(const Image& image, Search search) {
  const auto file = image.path.starts_with('[') ? nullptr : open_running_file(image);
  if (file) {
    ++files_opened_;
    search_file(image, *file, search);
  } else {
    search_separate_files(image, nullptr, {}, search);
    if (image.live && image.header != 0) {
      const MemoryBytes memory(image.bias);
      search_table(table_of_dynamic(memory, image.segments, image.bias), {}, search);
    }
  }
  for (const std::uint64_t address : search.addresses) search.cache.by_address.try_emplace(address);
}

void Symbolizer::search_file(const Image& image, const FileBytes& file, Search& search) {
  const std::vector<ElfSection> sections = read_sections(file);
  const SymbolTable all = table_of_section(file, sections, SHT_SYMTAB);
  search_table(all, sections, search);
  if (all.count == 0) search_separate_files(image, &file, sections, search);

  const SymbolTable dynamic = table_of_section(file, sections, SHT_DYNSYM);
  if (dynamic.count != 0) {
    search_table(dynamic, sections, search);
  } else {
    const std::vector<ElfSegment> segments = read_segments(file);
    const LoadedBytes loaded(file, segments);
    search_table(table_of_dynamic(loaded, segments, 0), {}, search);
  }
}

void Symbolizer::search_separate_files(const Image& image, const Bytes* file,
                                       std::span<const ElfSection> sections, Search& search) {
  if (search.addresses.empty()) return;
  if (const auto debug = open_debug_file(image, file, sections, debug_root_)) {
    ++files_opened_;
    const std::vector<ElfSection> debug_sections = read_sections(*debug);
    search_table(table_of_section(*debug, debug_sections, SHT_SYMTAB), debug_sections, search);
    return;
  }
  if (file == nullptr) return;
  if (const auto mini = read_mini_debug_info(*file, sections)) {
    const std::vector<ElfSection> mini_sections = read_sections(*mini);
    SymbolTable table = table_of_section(*mini, mini_sections, SHT_SYMTAB);
    // It leaves out what .dynsym has.
    table.complete = false;
    search_table(table, mini_sections, search);
  }
}

void Symbolizer::search_table(const SymbolTable& table, std::span<const ElfSection> sections,
                              Search& search) {
  if (table.count == 0) return;
  std::vector<std::uint64_t> unnamed;
  for (std::span<const std::uint64_t> rest = search.addresses; !rest.empty();) {
    const auto part = rest.first(std::min(rest.size(), kMaxAddresses));
    rest = rest.subspan(part.size());
    const std::vector<SymbolMatch> matches = find_symbols(table, sections, part, search.use);
    for (std::size_t i = 0; i < part.size(); ++i) {
      const SymbolMatch& match = matches[i];
      if (match.name == kNoName) {
        unnamed.push_back(part[i]);
        continue;
      }
      std::shared_ptr<const Symbol>& symbol = search.cache.by_start[match.start];
      if (!symbol) {
        std::string system_name = symbol_name(table, match.name);
        std::string name = demangle(system_name);
        symbol = std::make_shared<const Symbol>(Symbol{std::move(name), std::move(system_name)});
      }
      search.cache.by_address[part[i]] = {.symbol = symbol, .start = match.start};
    }
  }
  search.addresses = std::move(unnamed);
}

std::shared_ptr<const Symbol> Symbolizer::placeholder(const Module* module) {
  std::string name = "[unknown]";
  if (module != nullptr) {
    name = module->path.substr(module->path.rfind('/') + 1);
    if (name.empty()) name = "unknown";
    if (!name.starts_with('[')) name = "[" + name + "]";
  }
  std::shared_ptr<const Symbol>& symbol = placeholders_[name];
  if (!symbol) symbol = std::make_shared<const Symbol>(Symbol{name, name});
  return symbol;
}

}  // namespace profagent::service
