/**
 * Finds the guest's RAM among the mappings of Firecracker or Cloud Hypervisor. Both map each region of RAM by itself, in
 * ascending order of guest addresses (Firecracker's src/vmm/src/vstate/memory.rs, `create`; Cloud Hypervisor's
 * vmm/src/memory_manager.rs). Linux maps from high addresses to low ones, so the first region has the highest address.
 */
import type { Mapping } from "./ram.ts";

const PROGRAM = /(?:^|\/)(?:firecracker|cloud-hypervisor)[^/]*$/;

/** Returns whether the arguments of a process are those of Firecracker or Cloud Hypervisor. */
export const isMicroVm = (words: readonly string[]): boolean => PROGRAM.test(words[0] ?? "");

/** Names of shared memory: Firecracker's `create_memfd`, Cloud Hypervisor's `create_anonymous_file`. */
const MEMFD = /^\/memfd:(?:guest_mem|ch_ram)\b/;

const GIB = 2 ** 30;
/**
 * Sizes of the region below the hole on x86-64: 3 GiB (Firecracker's src/vmm/src/arch/x86_64/layout.rs, MMIO32_MEM_START;
 * Cloud Hypervisor's arch/src/x86_64/layout.rs, MEM_32BIT_RESERVED_START); 3.25 GiB in older releases of Firecracker.
 */
const LOW_BYTES: readonly number[] = [3 * GIB, 3.25 * GIB];
/** Older releases of Firecracker put an inaccessible page before and after each region (`build_guarded`). */
const MAX_GUARD_BYTES = 2 * 65_536;

/**
 * Returns the mappings of the RAM, in the order of guest addresses; none if there is no writable memory. `isX86` is the host's
 * architecture, which is also the guest's.
 */
export function chooseMicroVmRam(mappings: readonly Mapping[], isX86: boolean): readonly Mapping[] {
  const shared = mappings.filter(({ name }) => MEMFD.test(name));
  if (shared.length > 0) return inGuestOrder(shared);
  const [largest] = mappings.toSorted((a, b) => b.length - a.length);
  if (largest === undefined) return [];
  // A file: a restored snapshot's memory, or one that the user gave.
  if (largest.inode !== 0) return inGuestOrder(mappings.filter(({ inode }) => inode === largest.inode));
  return isX86 ? aroundHole(mappings, largest) : [largest];
}

function inGuestOrder(mappings: readonly Mapping[]): readonly Mapping[] {
  return mappings.toSorted((a, b) => (a.inode === b.inode ? a.fileOffset - b.fileOffset : b.start - a.start));
}

/** Returns the regions below and above the hole. The kernel makes one mapping of anonymous regions without guard pages. */
function aroundHole(mappings: readonly Mapping[], largest: Mapping): readonly Mapping[] {
  const isLow = ({ length }: Mapping): boolean => LOW_BYTES.includes(length);
  const isBelow = (high: Mapping, low: Mapping): boolean => {
    const gap = low.start - (high.start + high.length);
    return gap >= 0 && gap <= MAX_GUARD_BYTES;
  };
  const anonymous = mappings.filter(({ inode }) => inode === 0);
  const low = anonymous.find((each) => isLow(each) && isBelow(largest, each));
  if (low !== undefined) return [low, largest];
  if (isLow(largest)) {
    const high = anonymous.find((each) => isBelow(each, largest));
    return high === undefined ? [largest] : [largest, high];
  }
  const [lowBytes = 0] = LOW_BYTES;
  if (largest.length <= lowBytes) return [largest];
  const highBytes = largest.length - lowBytes;
  return [
    { ...largest, start: largest.start + highBytes, length: lowBytes },
    { ...largest, length: highBytes },
  ];
}
