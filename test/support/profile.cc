#include "test/support/profile.h"

#include <algorithm>
#include <ostream>
#include <stdexcept>

#include <zlib.h>

#include "encoder/proto/profile.pb.h"

namespace profagent::test {
namespace pb = profagent::proto;

std::string gunzip(const std::string& bytes) {
  z_stream stream{};
  if (inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK) throw std::runtime_error("zlib does not start");
  std::string result;
  std::string input = bytes;
  stream.next_in = reinterpret_cast<Bytef*>(input.data());
  stream.avail_in = static_cast<uInt>(input.size());
  int state = Z_OK;
  while (state == Z_OK) {
    char block[65536];
    stream.next_out = reinterpret_cast<Bytef*>(block);
    stream.avail_out = sizeof block;
    state = inflate(&stream, Z_NO_FLUSH);
    result.append(block, sizeof block - stream.avail_out);
  }
  const bool whole = state == Z_STREAM_END && stream.avail_in == 0;
  inflateEnd(&stream);
  if (!whole) throw std::runtime_error("not exactly one gzip member: '" + bytes.substr(0, 80) + "'");
  return result;
}

Profile Profile::parse(const std::string& body) {
  auto message = std::make_shared<pb::Profile>();
  if (!message->ParseFromString(gunzip(body))) throw std::runtime_error("not a profile.proto message");
  Profile profile;
  profile.message_ = message;

  std::map<std::uint64_t, const pb::Function*> functions;
  for (const pb::Function& function : message->function()) functions[function.id()] = &function;
  std::map<std::uint64_t, const pb::Mapping*> mappings;
  for (const pb::Mapping& mapping : message->mapping()) mappings[mapping.id()] = &mapping;
  std::map<std::uint64_t, const pb::Location*> locations;
  for (const pb::Location& location : message->location()) locations[location.id()] = &location;

  for (const pb::Sample& sample : message->sample()) {
    Sample read;
    for (const std::uint64_t id : sample.location_id()) {
      const auto location = locations.find(id);
      if (location == locations.end())
        throw std::runtime_error("a sample names a location that is not there");
      Frame frame;
      frame.address = location->second->address();
      if (const auto mapping = mappings.find(location->second->mapping_id()); mapping != mappings.end())
        frame.mapping = profile.text(mapping->second->filename());
      // A location without lines is still a frame.
      if (location->second->line().empty()) read.stack.push_back(frame);
      for (const pb::Line& line : location->second->line()) {
        const auto function = functions.find(line.function_id());
        if (function == functions.end())
          throw std::runtime_error("a line names a function that is not there");
        frame.name = profile.text(function->second->name());
        frame.system_name = profile.text(function->second->system_name());
        frame.file = profile.text(function->second->filename());
        frame.line = line.line();
        read.stack.push_back(frame);
      }
    }
    read.values.assign(sample.value().begin(), sample.value().end());
    for (const pb::Label& label : sample.label()) {
      if (label.str() != 0)
        read.labels[profile.text(label.key())] = profile.text(label.str());
      else
        read.numbers[profile.text(label.key())] = label.num();
    }
    profile.samples_.push_back(std::move(read));
  }
  return profile;
}

std::string Profile::text(std::int64_t index) const {
  if (index < 0 || index >= message_->string_table_size())
    throw std::runtime_error("string index out of range");
  return message_->string_table(static_cast<int>(index));
}

std::vector<std::string> Profile::types() const {
  std::vector<std::string> result;
  for (const pb::ValueType& type : message_->sample_type())
    result.push_back(text(type.type()) + "/" + text(type.unit()));
  return result;
}

std::vector<std::string> Profile::comments() const {
  std::vector<std::string> result;
  for (const std::int64_t index : message_->comment()) result.push_back(text(index));
  return result;
}

Total Profile::total(const std::string& type) const {
  for (int i = 0; i < message_->sample_type_size(); ++i)
    if (text(message_->sample_type(i).type()) == type) return Total(*this, static_cast<std::size_t>(i));
  throw std::runtime_error("no sample type " + type);
}

std::vector<Sample> Profile::in(const std::string& function) const {
  std::vector<Sample> result;
  std::copy_if(samples_.begin(), samples_.end(), std::back_inserter(result),
               [&](const Sample& sample) { return sample.has(function); });
  return result;
}

std::vector<Sample> Profile::of_thread(const std::string& name) const {
  std::vector<Sample> result;
  std::copy_if(samples_.begin(), samples_.end(), std::back_inserter(result), [&](const Sample& sample) {
    return sample.labels.count("thread") == 1 && sample.labels.at("thread") == name;
  });
  return result;
}

bool Sample::has(const std::string& function) const {
  return std::any_of(stack.begin(), stack.end(), [&](const Frame& frame) { return frame.name == function; });
}

std::string Sample::key() const {
  std::string result;
  for (const Frame& frame : stack) result += frame.name + ";";
  for (const auto& [name, value] : numbers) result += " " + name + "=" + std::to_string(value);
  for (const auto& [name, value] : labels) result.append(" ").append(name).append("=").append(value);
  return result;
}

namespace {

template <typename Choose>
std::int64_t sum(const Profile& profile, std::size_t type, Choose choose) {
  std::int64_t result = 0;
  for (const Sample& sample : profile.samples())
    if (choose(sample)) result += sample.values.at(type);
  return result;
}

}  // namespace

std::int64_t Total::all() const {
  return sum(profile_, type_, [](const Sample&) { return true; });
}

std::int64_t Total::in(const std::string& function) const {
  return sum(profile_, type_, [&](const Sample& sample) { return sample.has(function); });
}

std::int64_t Total::under(const std::string& function) const {
  return sum(profile_, type_, [&](const Sample& sample) {
    for (std::size_t i = 1; i < sample.stack.size(); ++i)
      if (sample.stack[i].name == function) return true;
    return false;
  });
}

std::int64_t Total::at(const std::string& function) const {
  return sum(profile_, type_,
             [&](const Sample& sample) { return !sample.stack.empty() && sample.stack[0].name == function; });
}

std::ostream& operator<<(std::ostream& out, MultipleOf multiple) {
  return out << "a multiple of " << multiple.unit;
}

}  // namespace profagent::test
