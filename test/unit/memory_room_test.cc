// What there is of memory, as the kernel's files tell it.
#include "agent/service/memory_room.h"

#include <catch2/catch.hpp>

#include "test/unit/fake_machine.h"

using namespace profagent::service;
using namespace profagent::service::test;

namespace {

constexpr std::uint64_t kNoOldLimit = 9223372036854771712U;

void check_room(const FakeMachine& machine, std::uint64_t bytes, MemoryRoom::Of of) {
  const MemoryRoom room = memory_room(machine.root());
  CHECK(room.bytes == bytes);
  CHECK(room.of == of);
}

}  // namespace

TEST_CASE("without limits the room is the machine's") {
  const FakeMachine machine(3000 * kMega);
  SECTION("without control groups") {}
  SECTION("unified, where the outermost group has no limit") {
    machine.set_groups("0::/system.slice/x.service\n");
    machine.write("/sys/fs/cgroup/cgroup.procs", "");
    machine.write("/sys/fs/cgroup/memory.stat", "inactive_file 1\n");
    machine.add_group("/system.slice", "max", "max", 5000 * kMega);
    machine.add_group("/system.slice/x.service", "max", "max", 4000 * kMega);
  }
  SECTION("of the old kind") {
    machine.set_groups("4:memory:/a\n0::/\n");
    machine.add_old_group("/", kNoOldLimit, 5000 * kMega);
    machine.add_old_group("/a", kNoOldLimit, 4000 * kMega);
  }
  check_room(machine, 3000 * kMega, MemoryRoom::Of::kMachine);
}

TEST_CASE("the room is that of the group which has least, from the process up to the outermost") {
  const FakeMachine machine(3000 * kMega);
  machine.set_groups("0::/a/b/c\n");
  machine.write("/sys/fs/cgroup/cgroup.procs", "");
  const auto limit = [](std::uint64_t megabytes) { return std::to_string(megabytes * kMega); };
  machine.add_group("/a", "max", "max", 900 * kMega);
  machine.add_group("/a/b", "max", "max", 800 * kMega);
  machine.add_group("/a/b/c", "max", "max", 700 * kMega);
  // Not of ours.
  machine.add_group("/a/b/c/d", limit(1), "max", kMega);
  machine.add_group("/a/other", limit(1), "max", kMega);
  SECTION("its own") {
    machine.add_group("/a/b/c", limit(1000), "max", 700 * kMega);
    machine.add_group("/a", limit(1900), "max", 900 * kMega);
    check_room(machine, 300 * kMega, MemoryRoom::Of::kGroup);
  }
  SECTION("one above") {
    machine.add_group("/a/b/c", limit(2000), "max", 700 * kMega);
    machine.add_group("/a", limit(1100), "max", 900 * kMega);
    check_room(machine, 200 * kMega, MemoryRoom::Of::kGroup);
  }
  SECTION("of a container, which sees itself as the outermost") {
    machine.set_groups("0::/\n");
    machine.add_group("/", limit(512), "max", 500 * kMega);
    check_room(machine, 12 * kMega, MemoryRoom::Of::kGroup);
  }
  SECTION("outside of what can be seen") {
    machine.set_groups("0::/../../a/b/c\n");
    machine.add_group("/", limit(512), "max", 500 * kMega);
    check_room(machine, 12 * kMega, MemoryRoom::Of::kGroup);
  }
  SECTION("one that is gone") {
    machine.set_groups("0::/a/gone (deleted)\n");
    machine.add_group("/a", limit(1100), "max", 900 * kMega);
    check_room(machine, 200 * kMega, MemoryRoom::Of::kGroup);
  }
  SECTION("where the kernel begins to slow down, before it ends somebody") {
    machine.add_group("/a/b/c", limit(1000), limit(800), 700 * kMega);
    check_room(machine, 100 * kMega, MemoryRoom::Of::kGroup);
  }
  SECTION("beyond its limit") {
    machine.add_group("/a/b/c", "max", limit(600), 700 * kMega);
    check_room(machine, 0, MemoryRoom::Of::kGroup);
  }
}

TEST_CASE("the room is that of an old group") {
  const FakeMachine machine(3000 * kMega);
  machine.add_old_group("/", kNoOldLimit, 5000 * kMega);
  machine.add_old_group("/docker", 1000 * kMega, 900 * kMega);
  machine.add_old_group("/docker/x", 2000 * kMega, 800 * kMega);
  SECTION("by itself, and with others on the same line") {
    for (const char* const controllers : {"memory", "cpu,memory", "memory,hugetlb"}) {
      machine.set_groups("12:cpuset:/elsewhere\n4:" + std::string(controllers) + ":/docker/x\n0::/\n");
      check_room(machine, 100 * kMega, MemoryRoom::Of::kGroup);
    }
  }
  SECTION("not of other controllers") {
    machine.set_groups("12:memory2:/docker/x\n4:memory:/\n");
    check_room(machine, 3000 * kMega, MemoryRoom::Of::kMachine);
  }
  SECTION("whose path is that outside of the container") {
    machine.add_old_group("/", 700 * kMega, 300 * kMega);
    machine.set_groups("4:memory:/kubepods/pod1/x\n");
    check_room(machine, 400 * kMega, MemoryRoom::Of::kGroup);
  }
}

TEST_CASE("files that were read once do not fill a group") {
  const FakeMachine machine(3000 * kMega);
  SECTION("unified") {
    machine.set_groups("0::/a\n");
    machine.add_group("/a", std::to_string(1000 * kMega), "max", 990 * kMega, 600 * kMega);
  }
  SECTION("old") {
    machine.set_groups("4:memory:/a\n");
    machine.add_old_group("/a", 1000 * kMega, 990 * kMega, 600 * kMega);
  }
  check_room(machine, 610 * kMega, MemoryRoom::Of::kGroup);
}

TEST_CASE("what cannot be seen is taken for little") {
  SECTION("nothing at all") {
    check_room(FakeMachine(), kUnknownRoom, MemoryRoom::Of::kUnknown);
  }
  SECTION("no groups, though there are some") {
    const FakeMachine machine(3000 * kMega);
    machine.set_groups("0::/a\n");
    check_room(machine, kUnknownRoom, MemoryRoom::Of::kUnknown);
    machine.set_available(500 * kMega);
    check_room(machine, 500 * kMega, MemoryRoom::Of::kMachine);
  }
  SECTION("lines that are none") {
    const FakeMachine machine(3000 * kMega);
    machine.write("/sys/fs/cgroup/cgroup.procs", "");
    for (const char* const lines : {"\n\n", "0:\n", "0::\n", "::::\n", "memory\n", "0::relative\n"}) {
      machine.set_groups(lines);
      CHECK(memory_room(machine.root()).bytes >= kUnknownRoom);
    }
  }
}

TEST_CASE("this machine has some") {
  CHECK(memory_room().bytes > 0);
}
