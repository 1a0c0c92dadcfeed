// A decoded profile, read by libprotobuf's generated classes (an independent opinion on our own encoder), and
// the questions that tests ask: "how many bytes in use under function F?".
#pragma once

#include <cstdint>
#include <iosfwd>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace profagent::proto {
class Profile;
}

namespace profagent::test {

// A location with inlined functions is several frames, with the same address.
struct Frame {
  std::uint64_t address = 0;
  std::string name;         // demangled
  std::string system_name;  // as the linker knows it
  std::string mapping;      // the file of the code
  std::string file;         // the source; empty: not known
  std::int64_t line = 0;
  friend bool operator==(const Frame&, const Frame&) = default;
};

struct Sample {
  std::vector<Frame> stack;  // leaf first
  std::vector<std::int64_t> values;
  std::map<std::string, std::int64_t> numbers;  // numeric labels
  std::map<std::string, std::string> labels;    // string labels

  [[nodiscard]] bool has(const std::string& function) const;
  // The stack's functions and labels in one line: the same in two scrapes of one process, and in two runs.
  [[nodiscard]] std::string key() const;
};

class Profile;

// One sample type's values, summed over a choice of samples.
class Total {
 public:
  Total(const Profile& profile, std::size_t type) : profile_(profile), type_(type) {}
  [[nodiscard]] std::int64_t all() const;
  [[nodiscard]] std::int64_t in(const std::string& function) const;     // a frame is `function`
  [[nodiscard]] std::int64_t under(const std::string& function) const;  // a caller is `function`
  [[nodiscard]] std::int64_t at(const std::string& function) const;     // the leaf is `function`

 private:
  const Profile& profile_;
  std::size_t type_;
};

class Profile {
 public:
  // Takes a body as served: exactly one gzip member that holds a profile, else std::runtime_error.
  static Profile parse(const std::string& body);

  [[nodiscard]] Total total(const std::string& type) const;  // throws when there is no such type
  [[nodiscard]] const std::vector<Sample>& samples() const { return samples_; }
  [[nodiscard]] std::vector<Sample> in(const std::string& function) const;
  [[nodiscard]] std::vector<Sample> of_thread(const std::string& name) const;  // by the label `thread`
  [[nodiscard]] std::vector<std::string> types() const;                        // "inuse_space/bytes"
  [[nodiscard]] std::vector<std::string> comments() const;
  [[nodiscard]] std::string text(std::int64_t index) const;  // of the string table
  [[nodiscard]] const profagent::proto::Profile& message() const { return *message_; }

 private:
  std::shared_ptr<const profagent::proto::Profile> message_;
  std::vector<Sample> samples_;
};

// Inflates one gzip member; throws on a bad checksum, a second member, or bytes after the end.
std::string gunzip(const std::string& bytes);

// CHECK(total == multiple_of(1999993)): some blocks of exactly this size, and nothing else.
struct MultipleOf {
  std::int64_t unit;
};
[[nodiscard]] constexpr MultipleOf multiple_of(std::int64_t unit) {
  return {unit};
}
[[nodiscard]] constexpr bool operator==(std::int64_t value, MultipleOf multiple) {
  return value != 0 && value % multiple.unit == 0;
}
std::ostream& operator<<(std::ostream& out, MultipleOf multiple);

}  // namespace profagent::test
