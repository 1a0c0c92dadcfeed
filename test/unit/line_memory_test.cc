// When there is no memory for source lines: in our thread, or in the helper. Nothing ends but the lines.
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <set>

#include <elf.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/service/line_wire.h"
#include "agent/service/stacks.h"
#include "test/support/process.h"
#include "test/unit/lines_victim.h"
#include "test/unit/own_helper.h"

using namespace profagent::service;
using namespace profagent::service::test;
using profagent::test::eventually;

namespace {

// One allocation fails, after so many that do not; 0: none.
thread_local std::size_t failing_one = 0;

void* allocate(std::size_t bytes) {
  if (failing_one != 0 && --failing_one == 0) throw std::bad_alloc();
  void* const block = std::malloc(bytes);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

}  // namespace

void* operator new(std::size_t bytes) {
  return allocate(bytes);
}
void operator delete(void* block) noexcept {
  std::free(block);
}
void operator delete(void* block, std::size_t /*bytes*/) noexcept {
  std::free(block);
}

namespace {

std::size_t descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

// Answers at once.
class PromptHelper : public OwnHelper {
 public:
  PromptHelper() : OwnHelper("late", victim_path("bad_helper")) { std::ofstream(path() + ".go") << "go"; }
};

// Whether the allocation was reached.
bool fail_in_find(SourceLines& lines, const ModuleSet& modules, const LinesLibrary& library,
                  std::size_t allocation) {
  const std::vector<Text> full(4, "at4:1");
  failing_one = allocation;
  const LineAnswer answer = lines.find(modules, library.calls());
  const bool was_reached = failing_one == 0;
  failing_one = 0;
  REQUIRE(answer.chains.size() == 4);
  if (texts_of(answer) != full) REQUIRE_FALSE(answer.problem.empty());
  // A busy machine may have been too slow.
  REQUIRE(eventually([&] { return texts_of(lines.find(modules, library.calls())) == full; }));
  return was_reached;
}

// The section's place in the file, and the file open for changes.
Elf64_Shdr section_of(std::fstream& file, const std::string& wanted) {
  const auto read = [&](std::uint64_t at, auto& to) {
    file.seekg(static_cast<std::streamoff>(at));
    file.read(reinterpret_cast<char*>(&to), sizeof(to));
  };
  Elf64_Ehdr header;
  read(0, header);
  Elf64_Shdr names;
  read(header.e_shoff + header.e_shstrndx * sizeof(Elf64_Shdr), names);
  for (std::size_t i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section;
    read(header.e_shoff + i * sizeof(section), section);
    std::array<char, 64> name{};
    read(names.sh_offset + section.sh_name, name);
    if (wanted == name.data()) return section;
  }
  FAIL("no section " + wanted);
  return {};
}

// The exit code of the agent's own program, or the negative signal that ends it, when it is asked for an
// address of `file`, and may have so much memory.
int end_of_helper(const std::string& file, rlim_t memory) {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
  const char* const library = std::getenv("PROFAGENT_SO");
  const pid_t child = fork();
  if (child == 0) {
    const rlimit limit = {.rlim_cur = memory, .rlim_max = memory};
    if (dup2(ends[1], 0) == 0 && setrlimit(RLIMIT_DATA, &limit) == 0)
      execl(library, library, "--symbolize", nullptr);
    _exit(99);
  }
  close(ends[1]);
  std::vector<char> packet(line_wire::kMaxPacket);
  const bool is_ready = recv(ends[0], packet.data(), packet.size(), 0) > 0;
  const auto request = line_wire::encode({.id = 1, .path = file, .addresses = {0x1000}});
  const int descriptor = open(file.c_str(), O_RDONLY | O_CLOEXEC);
  iovec piece = {.iov_base = const_cast<std::byte*>(request.data()), .iov_len = request.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
  if (is_ready) CHECK(sendmsg(ends[0], &message, MSG_NOSIGNAL) == static_cast<ssize_t>(request.size()));
  close(descriptor);
  // An answer, or the end.
  const bool has_answered = recv(ends[0], packet.data(), packet.size(), 0) > 0;
  close(ends[0]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(has_answered == (status == 0));
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

constexpr rlim_t kUsual = rlim_t{2} << 30U;

// A packed section that says it is as large as no memory.
std::string without_end(const Folder& folder) {
  const std::string path = folder.copy("liblines_packed.so", "libendless.so");
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  const Elf64_Shdr section = section_of(file, ".debug_info");
  REQUIRE((section.sh_flags & SHF_COMPRESSED) != 0);
  const std::uint64_t size = std::uint64_t{1} << 60U;
  file.seekp(static_cast<std::streamoff>(section.sh_offset + offsetof(Elf64_Chdr, ch_size)));
  file.write(reinterpret_cast<const char*>(&size), sizeof(size));
  REQUIRE(file.good());
  return path;
}

}  // namespace

TEST_CASE("an allocation that fails costs lines, and no more") {
  const Folder folder;
  const LinesLibrary library(folder.copy("liblines_optimized.so", "libfails.so"));
  const ModuleSet modules = ModuleSet::now({});
  const PromptHelper helper;
  const std::size_t before = descriptors();
  SECTION("while a helper runs") {
    SourceLines lines(without_pause(helper));
    std::size_t allocation = 1;
    for (bool was_reached = true; was_reached; ++allocation) {
      lines.clear();
      was_reached = fail_in_find(lines, modules, library, allocation);
    }
    CHECK(allocation > 20);
  }
  SECTION("while one is started") {
    for (std::size_t allocation = 1;; allocation += 7) {
      SourceLines lines(without_pause(helper));
      if (!fail_in_find(lines, modules, library, allocation)) break;
    }
  }
  CHECK(descriptors() == before);
}

TEST_CASE("a helper that has no memory for a file ends by itself", "[E16]") {
  const Folder folder;
  CHECK(end_of_helper(victim_path("liblines_packed.so"), kUsual) == 0);
  CHECK(end_of_helper(without_end(folder), kUsual) == 1);
}

TEST_CASE("also when it has none for anything", "[E16]") {
  const Folder folder;
  const std::string file = folder.copy("liblines_packed.so", "libnothing.so");
  constexpr rlim_t kStep = 64 * 1024;
  constexpr int kLoaderGivesUp = 127;
  std::set<int> ends;
  for (rlim_t memory = kStep; memory < 4 * kMega; memory += kStep) {
    INFO(memory);
    const int end = end_of_helper(file, memory);
    // With the least of all the kernel ends it before it begins.
    if (end < 0 && ends.empty()) continue;
    ends.insert(end);
  }
  CHECK(ends == std::set<int>{0, 1, kLoaderGivesUp});
}

TEST_CASE("also when it is our own part that has none", "[E16]") {
  const Folder folder;
  const std::string file = folder.copy("liblines_plain.so", "liblong.so");
  run({"objcopy", "--dump-section", ".debug_line=" + folder / "lines", file});
  // Mapped, that is not the helper's memory; a copy is.
  std::filesystem::resize_file(folder / "lines", 64 * kMega);
  run({"objcopy", "--update-section", ".debug_line=" + folder / "lines", file});
  CHECK(end_of_helper(file, 200 * kMega) == 0);
  CHECK(end_of_helper(file, 48 * kMega) == 1);
}

TEST_CASE("then a profile has names without lines, and says so", "[E16]") {
  const Folder folder;
  const LinesLibrary library(without_end(folder));
  const OwnHelper helper;
  SymbolSources sources{.symbolizer = Symbolizer("/nonexistent"),
                        .source_lines = SourceLines(without_pause(helper))};
  constexpr profagent::encoder::TypeAndUnit kTypes[] = {{"samples", "count"}};
  StackPool stacks;
  stacks.add(library.calls());
  for (const char* const problem :
       {"Source lines are incomplete: the helper has ended while it read ", "No source lines of "}) {
    const ReadableStacks readable(sources, {.detail = SymbolDetail::kLines}, stacks);
    REQUIRE(readable.frames().size() == 5);
    for (const ReadableStacks::Frame& frame : readable.frames().subspan(1)) {
      CHECK(frame.resolved.found);
      CHECK(frame.chain.empty());
    }
    profagent::encoder::Profile profile(kTypes);
    static_cast<void>(readable.describe(profile));
    REQUIRE(profile.comments().size() == 1);
    CHECK(profile.text(profile.comments()[0]).starts_with(problem));
  }
  CHECK(eventually([&] { return helper.processes().empty(); }));
}
