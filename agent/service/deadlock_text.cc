#include <string_view>

#include "agent/service/deadlock_report.h"
#include "agent/service/hex.h"

namespace profagent::service {

namespace {

// A name may be any bytes.
std::string quoted(std::string_view name) {
  std::string out = "\"";
  for (const char c : name) out += c < ' ' || c == '"' || c == '\x7f' ? '?' : c;
  return out + '"';
}

std::string named(pid_t tid, std::string_view name) {
  return std::to_string(tid) + (name.empty() ? std::string() : " " + quoted(name));
}

std::string counted(std::size_t count, std::string_view one, std::string_view many) {
  return std::to_string(count) + " " + std::string(count == 1 ? one : many);
}

std::string threads(std::size_t count) {
  return counted(count, "thread", "threads");
}

void append_thread(std::string& out, const DeadlockReport::Thread& thread, std::string_view holder) {
  const LockWait& wait = thread.wait;
  out += "thread " + named(wait.waiter, thread.name) + " waits ";
  if (wait.kind == safe::WaitKind::kJoin) {
    out += "for the end of thread " + named(wait.holder, thread.holder_name);
  } else {
    out += "for " + std::string(safe::text_of(wait.kind)) + " " + hex(wait.object) + ", held by ";
    out += holder.empty() ? "thread " + named(wait.holder, thread.holder_name) : std::string(holder);
  }
  out += wait.futex.is_timed ? " (with a time limit)\n" : "\n";
  for (const DeadlockReport::Frame& frame : thread.stack) {
    out += "#\t" + hex(frame.pc) + "\t" + frame.function + "+" + hex(frame.offset);
    if (!frame.file.empty()) out += "\t" + frame.file;
    out += '\n';
  }
  out += '\n';
}

}  // namespace

std::string deadlock_text(const DeadlockReport& report) {
  std::string out;
  if (report.cycles.empty() && report.abandoned.empty()) {
    out += "no deadlock\n";
  } else {
    out += counted(report.cycles.size(), "deadlock", "deadlocks") + ", " +
           counted(report.abandoned.size(), "lock", "locks") + " of threads that have ended\n";
  }
  if (!report.obstacle.empty()) out += "not all can be seen: " + report.obstacle + "\n";
  out += '\n';
  for (const DeadlockReport::Cycle& cycle : report.cycles) {
    out += cycle.threads.size() == 1
               ? "deadlock: a thread waits for itself"
               : "deadlock: " + threads(cycle.threads.size()) + " wait for each other in a circle";
    if (cycle.behind != 0) out += "; " + counted(cycle.behind, "more waits", "more wait") + " for them";
    out += "\n\n";
    for (const DeadlockReport::Thread& thread : cycle.threads) append_thread(out, thread, {});
  }
  for (const DeadlockReport::Abandoned& lock : report.abandoned) {
    out += "a lock of a thread that has ended\n\n";
    for (const DeadlockReport::Thread& thread : lock.threads) {
      append_thread(out, thread, "thread " + std::to_string(thread.wait.holder) + ", which does not exist");
    }
  }
  for (const DeadlockReport::Chain& chain : report.chains) {
    out += threads(chain.behind) + (chain.behind == 1 ? " waits" : " wait") + " for thread " +
           named(chain.head, chain.name) + ", " + std::to_string(chain.threads.size()) +
           (chain.is_cut ? " or more" : "") + " in a row\n\n";
    for (const DeadlockReport::Thread& thread : chain.threads) append_thread(out, thread, {});
  }
  return out;
}

}  // namespace profagent::service
