// A file as a library that was loaded once, for good: what is known of the addresses in it comes from the
// file and from its debug information alone.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "agent/service/build_id.h"
#include "agent/service/debug_files.h"
#include "agent/service/line_files.h"
#include "agent/service/modules.h"

namespace profagent::test {

class LoadedFile {
 public:
  explicit LoadedFile(const std::string& file) : file_(std::filesystem::canonical(file)) {
    INFO(file_);
    const auto bytes = service::FileBytes::open(file_.c_str(), service::Links::kFollow);
    REQUIRE(bytes != nullptr);
    const std::string id =
        service::build_id_of_file(*bytes, service::read_segments(*bytes), service::read_sections(*bytes));
    for (std::size_t i = 0; i < id.size(); i += 2)
      build_id_.push_back(static_cast<std::byte>(std::stoul(id.substr(i, 2), nullptr, 16)));
  }

  [[nodiscard]] const std::string& path() const { return file_; }
  [[nodiscard]] service::ModuleSet modules() const {
    const service::SeenModule seen{.start = kStart,
                                   .end = kStart + (std::uintptr_t{1} << 32),
                                   .path = file_.c_str(),
                                   .build_id = build_id_,
                                   .epoch = 1};
    return service::ModuleSet::now({&seen, 1});
  }
  // Where the file's debug information lies; empty when it has none.
  [[nodiscard]] std::string debug_file() const {
    const service::ModuleSet set = modules();
    return service::find_line_file(*set.image_of(*set.find(kStart)), service::kDebugRoot).path;
  }
  // As a running program would have them.
  [[nodiscard]] static std::vector<std::uintptr_t> pcs(const std::vector<std::uint64_t>& link_addresses) {
    std::vector<std::uintptr_t> result;
    for (const std::uint64_t address : link_addresses) result.push_back(kStart + address);
    return result;
  }

 private:
  static constexpr std::uintptr_t kStart = 0x10000000000;
  std::string file_;
  std::vector<std::byte> build_id_;
};

}  // namespace profagent::test
