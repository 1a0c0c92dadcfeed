#include "agent/safe/sys.h"

#include <csignal>

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#include "agent/safe/events.h"

namespace profagent::safe::sys {

namespace {

constexpr std::uintptr_t kPageSize = 4096;
// Kernel's sizeof(sigset_t), which is not libc's.
constexpr long kKernelSigsetSize = 8;
// Neither SIG_BLOCK, SIG_UNBLOCK nor SIG_SETMASK.
constexpr long kInvalidHow = ~0L;
constexpr long kErrorFault = -14;

}  // namespace

void* map_pages(std::size_t bytes) noexcept {
  if (!may_ask_kernel()) return nullptr;
  // In a program under mlockall(MCL_FUTURE) mmap itself would touch every page: what cannot
  // be accessed is not touched, and is unlocked before it can be.
  const long result = call(SYS_mmap, 0, static_cast<long>(bytes), PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (result < 0 && result > -4096) return nullptr;
  call(SYS_munlock, result, static_cast<long>(bytes));
  if (call(SYS_mprotect, result, static_cast<long>(bytes), PROT_READ | PROT_WRITE) != 0) {
    call(SYS_munmap, result, static_cast<long>(bytes));
    return nullptr;
  }
  call(SYS_madvise, result, static_cast<long>(bytes), MADV_NOHUGEPAGE);
  call(SYS_madvise, result, static_cast<long>(bytes), MADV_DONTDUMP);
  static constexpr char kName[] = "profagent";
  call(SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, result, static_cast<long>(bytes),
       reinterpret_cast<long>(kName));
  return reinterpret_cast<void*>(result);
}

void unmap_pages(void* address, std::size_t bytes) noexcept {
  call(SYS_munmap, reinterpret_cast<long>(address), static_cast<long>(bytes));
}

bool is_readable(std::uintptr_t address) noexcept {
  // A null mask means "none" to the kernel, which then looks at nothing.
  if (address < kPageSize || !may_ask_kernel()) return false;
  // The mask is eight bytes: aligning keeps it on the page asked for.
  const long mask = static_cast<long>(address & ~std::uintptr_t{7});
  return call(SYS_rt_sigprocmask, kInvalidHow, mask, 0, kKernelSigsetSize) != kErrorFault;
}

std::size_t read_memory(std::uintptr_t from, void* to, std::size_t bytes) noexcept {
  std::size_t done = 0;
  while (done < bytes && may_ask_kernel()) {
    // One page a call: a transfer stops in front of the first bad byte of a vector entry, not of a page.
    const std::size_t in_page = kPageSize - ((from + done) & (kPageSize - 1));
    const std::size_t want = bytes - done < in_page ? bytes - done : in_page;
    iovec local{static_cast<char*>(to) + done, want};
    iovec remote{reinterpret_cast<void*>(from + done), want};
    const long got = call(SYS_process_vm_readv, gettid(), reinterpret_cast<long>(&local), 1,
                          reinterpret_cast<long>(&remote), 1, 0);
    if (got <= 0) break;
    done += static_cast<std::size_t>(got);
    if (static_cast<std::size_t>(got) < want) break;
  }
  return done;
}

}  // namespace profagent::safe::sys
