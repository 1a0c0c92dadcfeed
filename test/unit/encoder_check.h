// The second opinion on encoder/: decodes with zlib and libprotobuf, and lists every rule of the readers
// (google/pprof, Pyroscope, Parca, Alloy) that the result breaks.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "encoder/proto/profile.pb.h"
#include "encoder/utf8.h"

namespace profagent::encoder::testing {

// Demands one complete member: CRC and length match, nothing follows.
inline std::string gunzip(std::string_view file) {
  z_stream z = {};
  constexpr int kGzipOnly = 15 + 16;
  if (inflateInit2(&z, kGzipOnly) != Z_OK) throw std::runtime_error("inflateInit2");
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(file.data()));
  z.avail_in = static_cast<uInt>(file.size());
  std::string result;
  int status = Z_OK;
  while (status == Z_OK) {
    char buffer[4096];
    z.next_out = reinterpret_cast<Bytef*>(buffer);
    z.avail_out = sizeof buffer;
    status = inflate(&z, Z_NO_FLUSH);
    result.append(buffer, sizeof buffer - z.avail_out);
  }
  const bool rest = z.avail_in != 0;
  inflateEnd(&z);
  if (status != Z_STREAM_END) throw std::runtime_error("gzip: torn or corrupt");
  if (rest) throw std::runtime_error("gzip: something follows the first member");
  return result;
}

inline proto::Profile parse(const std::string& wire) {
  proto::Profile profile;
  if (!profile.ParseFromString(wire)) throw std::runtime_error("not a protobuf profile");
  return profile;
}

inline proto::Profile decode(std::string_view file) {
  return parse(gunzip(file));
}

class RuleCheck {
 public:
  explicit RuleCheck(const proto::Profile& profile) : profile_(profile) {
    check_strings();
    check_types();
    check_tables();
    check_samples();
    for (const std::int64_t comment : profile.comment()) check_string(comment, "comment");
    check_string(profile.default_sample_type(), "default_sample_type");
    check_string(profile.doc_url(), "doc_url");
    check_string(profile.period_type().type(), "period_type");
    check_string(profile.period_type().unit(), "period_type");
  }

  [[nodiscard]] const std::vector<std::string>& broken() const { return broken_; }

 private:
  void expect(bool condition, const std::string& rule) {
    if (!condition) broken_.push_back(rule);
  }

  void check_string(std::int64_t index, const std::string& where) {
    expect(index >= 0 && index < profile_.string_table_size(), where + ": string index out of range");
  }

  [[nodiscard]] std::string text(std::int64_t index) const {
    const bool known = index >= 0 && index < profile_.string_table_size();
    return known ? profile_.string_table(static_cast<int>(index)) : std::string();
  }

  void check_strings() {
    expect(profile_.string_table_size() > 0 && profile_.string_table(0).empty(), "string_table[0] is \"\"");
    std::set<std::string> seen;
    for (const std::string& text : profile_.string_table()) {
      expect(seen.insert(text).second, "string twice: " + text);
      expect(is_utf8(text), "string is UTF-8");
      expect(text.size() <= 65535, "string is short");
    }
  }

  void check_types() {
    expect(profile_.sample_type_size() >= 1 && profile_.sample_type_size() <= 4, "1 to 4 sample types");
    bool default_offered = profile_.default_sample_type() == 0;
    for (const proto::ValueType& type : profile_.sample_type()) {
      check_string(type.type(), "sample_type");
      check_string(type.unit(), "sample_type");
      expect(!text(type.type()).empty() && text(type.type()).find('-') == std::string::npos, "type name");
      default_offered = default_offered || type.type() == profile_.default_sample_type();
    }
    expect(default_offered, "default_sample_type is one of the types");
  }

  void check_tables() {
    std::uint64_t id = 0;
    for (const proto::Mapping& mapping : profile_.mapping()) {
      expect(mapping.id() == ++id, "mapping ids count from 1");
      check_string(mapping.filename(), "mapping");
      check_string(mapping.build_id(), "mapping");
    }
    id = 0;
    std::set<std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t>> functions;
    for (const proto::Function& function : profile_.function()) {
      expect(function.id() == ++id, "function ids count from 1");
      check_string(function.name(), "function");
      check_string(function.system_name(), "function");
      check_string(function.filename(), "function");
      const auto key =
          std::tuple(function.name(), function.system_name(), function.filename(), function.start_line());
      expect(functions.insert(key).second, "function twice");
    }
    id = 0;
    std::set<std::pair<std::uint64_t, std::uint64_t>> locations;
    for (const proto::Location& location : profile_.location()) {
      expect(location.id() == ++id, "location ids count from 1");
      expect(location.address() != 0, "location address is not 0");
      expect(location.mapping_id() <= static_cast<std::uint64_t>(profile_.mapping_size()), "mapping exists");
      expect(locations.emplace(location.address(), location.mapping_id()).second, "location twice");
      for (const proto::Line& line : location.line()) {
        expect(line.function_id() >= 1 &&
                   line.function_id() <= static_cast<std::uint64_t>(profile_.function_size()),
               "function exists");
      }
    }
  }

  void check_samples() {
    std::set<std::string> keys;
    for (const proto::Sample& sample : profile_.sample()) {
      expect(sample.value_size() == profile_.sample_type_size(), "one value for each type");
      for (const std::uint64_t id : sample.location_id()) {
        expect(id >= 1 && id <= static_cast<std::uint64_t>(profile_.location_size()), "location exists");
      }
      std::set<std::string> label_keys;
      for (const proto::Label& label : sample.label()) check_label(label, label_keys);
      proto::Sample key = sample;
      key.clear_value();
      expect(keys.insert(key.SerializeAsString()).second, "two samples with one stack and labels");
    }
  }

  void check_label(const proto::Label& label, std::set<std::string>& keys) {
    check_string(label.key(), "label key");
    check_string(label.str(), "label text");
    check_string(label.num_unit(), "label unit");
    const std::string key = text(label.key());
    expect(!key.empty(), "label has a key");
    expect(keys.insert(key).second, "label key twice");
    expect(key.rfind("pprof::", 0) != 0, "label key is not reserved");
    expect(label.str() != 0 || label.num() != 0 || label.num_unit() != 0, "label can be seen");
    expect(label.str() == 0 || (label.num() == 0 && label.num_unit() == 0), "label is text or number");
  }

  const proto::Profile& profile_;
  std::vector<std::string> broken_;
};

inline std::vector<std::string> broken_rules(const proto::Profile& profile) {
  return RuleCheck(profile).broken();
}

}  // namespace profagent::encoder::testing
